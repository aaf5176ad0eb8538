"""A robot's nodes in one, as Nav2 has them: tf, a map, odometry, a plan, images, many latched topics, services, an action.

    robot.py NAME [--hear ROBOT]... [--call ROBOT]... [--topics N] [--services N] [--map BYTES] [--image BYTES]

It offers all that under its name, hears the robots named by --hear, and calls the services and the action of those named by --call, which must
be on the same RMW: ROS services do not cross from one to the other. What comes of it is printed, one line for each first time, beginning with
the Unix time:

    ready
    node R | graph R N                 its node is in the graph; with all topics that it publishes
    tf R | tf_static R | odom R | plan R N_POSES | image R BYTES | map R BYTES | topics R N
    unanswered R SERVICE               no reply within 10 s; it is called again
    services R N LOST                  all have answered; how many calls before got no reply
    action R accepted | feedback | result | canceled
    wrong WHAT                         something has come that was not sent

and every two seconds 'counts' with what has come so far.
"""
import argparse
import array
import time

import rclpy
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import OccupancyGrid, Odometry, Path
from rclpy.action import ActionClient, ActionServer, CancelResponse
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_msgs.action import LookupTransform
from tf2_msgs.msg import TFMessage

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
POSES = 200
PUBLISHED = 6  # topics besides the latched ones
FEEDBACKS = 5
PATIENCE = 10.0  # seconds for an answer


def tell(*words):
    print(f'{time.time():.3f}', *words, flush=True)


def pattern(name, size):
    """Bytes of 0 to 100 that differ from robot to robot."""
    start = sum(name.encode()) % 101
    return (bytes((start + i) % 101 for i in range(101)) * (size // 101 + 1))[:size]


class Offers:
    """What this robot publishes and serves."""

    def __init__(self, node, args):
        self.node, self.me, self.ticks, self.goals = node, args.name, 0, []
        self.tf = node.create_publisher(TFMessage, '/tf', 100)
        self.static = node.create_publisher(TFMessage, '/tf_static', LATCHED)
        self.map = node.create_publisher(OccupancyGrid, f'/{self.me}/map', LATCHED)
        self.odom = node.create_publisher(Odometry, f'/{self.me}/odom', 10)
        self.plan = node.create_publisher(Path, f'/{self.me}/plan', 1)
        self.image = node.create_publisher(Image, f'/{self.me}/image', BEST_EFFORT)
        self.latched = [node.create_publisher(String, f'/{self.me}/t{i:03}', LATCHED) for i in range(args.topics)]
        self.services = [node.create_service(Trigger, f'/{self.me}/s{i:02}', self.serve) for i in range(args.services)]
        self.action = ActionServer(node, LookupTransform, f'/{self.me}/lookup', self.finish,
                                   handle_accepted_callback=lambda goal: self.goals.append([goal, 0]),
                                   cancel_callback=lambda goal: CancelResponse.ACCEPT)
        self.frame = Image(height=args.image // 1000, width=1000, step=1000, encoding='mono8', data=pattern(self.me, args.image // 1000 * 1000))
        side = int(args.map ** 0.5)
        grid = OccupancyGrid(data=array.array('b', pattern(self.me, side * side)))
        grid.info.width = grid.info.height = side
        grid.header.frame_id = self.me
        self.map.publish(grid)
        self.static.publish(TFMessage(transforms=[self.transform(f'sensor{i}') for i in range(10)]))
        for i, p in enumerate(self.latched):
            p.publish(String(data=f'{self.me} {i}'))
        node.create_timer(0.1, self.tick)

    def transform(self, child):
        t = TransformStamped(child_frame_id=f'{self.me}/{child}')
        t.header.frame_id = f'{self.me}/base_link'
        t.header.stamp = self.node.get_clock().now().to_msg()
        return t

    def serve(self, request, response):
        response.success, response.message = True, self.me
        return response

    def finish(self, goal):
        result = LookupTransform.Result()
        if goal.is_cancel_requested:
            goal.canceled()
        else:
            result.transform = self.transform(goal.request.target_frame)
            goal.succeed()
        return result

    def tick(self):
        self.ticks += 1
        self.tf.publish(TFMessage(transforms=[self.transform(f'link{i}') for i in range(10)]))
        self.odom.publish(Odometry(child_frame_id=self.me))
        if self.ticks % 5 == 0:
            self.image.publish(self.frame)
        if self.ticks % 10 == 0:
            self.plan.publish(Path(poses=[PoseStamped() for _ in range(POSES)]))
        for entry in list(self.goals):
            goal, n = entry
            entry[1] += 1
            if goal.is_cancel_requested or n == FEEDBACKS and goal.request.target_frame != 'endless':
                self.goals.remove(entry)
                goal.execute()
            else:
                goal.publish_feedback(LookupTransform.Feedback())


class Hears:
    """What another robot publishes."""

    def __init__(self, node, args, other):
        self.node, self.other, self.topics, self.counts, self.want = node, other, set(), {}, args.topics
        map_size = int(args.map ** 0.5) ** 2
        pixels = args.image // 1000 * 1000

        def is_of(m):
            return any(t.child_frame_id.startswith(other + '/') for t in m.transforms)

        def on(kind, msg_type, topic, qos, right, detail=lambda m: ''):
            def heard(m):
                good = right(m)
                if good is None:  # of somebody else
                    return
                self.counts[kind] = self.counts.get(kind, 0) + 1
                if not good:
                    tell('wrong', kind, other)
                elif self.counts[kind] == 1:
                    tell(kind, other, detail(m))
            node.create_subscription(msg_type, topic, heard, qos)

        on('tf', TFMessage, '/tf', 100, lambda m: is_of(m) and len(m.transforms) == 10 or None)
        on('tf_static', TFMessage, '/tf_static', QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL), lambda m: is_of(m) or None)
        on('odom', Odometry, f'/{other}/odom', 10, lambda m: m.child_frame_id == other)
        on('plan', Path, f'/{other}/plan', 1, lambda m: len(m.poses) == POSES, lambda m: len(m.poses))
        on('image', Image, f'/{other}/image', BEST_EFFORT, lambda m: bytes(m.data) == pattern(other, pixels), lambda m: len(m.data))
        on('map', OccupancyGrid, f'/{other}/map', LATCHED, lambda m: m.data.tobytes() == pattern(other, map_size), lambda m: len(m.data))
        for i in range(args.topics):
            node.create_subscription(String, f'/{other}/t{i:03}', lambda m, i=i: self.latched(i, m.data), LATCHED)

    def latched(self, i, text):
        if text != f'{self.other} {i}':
            tell('wrong', 'topic', self.other, i, text)
        elif i not in self.topics:
            self.topics.add(i)
            if len(self.topics) == self.want:
                tell('topics', self.other, self.want)


class Calls:
    """Calls of another robot's services, each as soon as ROS says that it is there, and of its action."""

    def __init__(self, node, args, other):
        self.other, self.lost = other, 0
        self.waiting = {i: node.create_client(Trigger, f'/{other}/s{i:02}') for i in range(args.services)}
        self.pending = {}
        self.want = args.services
        self.action = ActionClient(node, LookupTransform, f'/{other}/lookup')
        self.stage, self.future, self.asked, self.feedbacks, self.told, self.goal = 'goal', None, 0, 0, False, None
        node.create_timer(0.05, self.call)
        node.create_timer(0.05, self.act)

    def call(self):
        now = time.monotonic()
        for i, client in list(self.waiting.items()):
            future, since = self.pending.get(i, (None, 0))
            if future is None:
                if client.service_is_ready():
                    self.pending[i] = client.call_async(Trigger.Request()), now
            elif future.done():
                if future.result().message != self.other:
                    tell('wrong', 'service', self.other, i, future.result().message)
                del self.waiting[i], self.pending[i]
                if not self.waiting:
                    tell('services', self.other, self.want, self.lost)
            elif now - since > PATIENCE:
                self.lost += 1
                tell('unanswered', self.other, f's{i:02}')
                client.remove_pending_request(future)
                del self.pending[i]

    def ask(self, future):
        self.future, self.asked = future, time.monotonic()

    def act(self):
        if self.stage == 'done':
            return
        if self.future is None:
            if self.stage in ('goal', 'endless') and self.action.server_is_ready():
                self.ask(self.action.send_goal_async(LookupTransform.Goal(target_frame=self.stage), feedback_callback=self.feedback))
            elif self.stage == 'result':
                self.ask(self.goal.get_result_async())
            elif self.stage == 'cancel' and self.feedbacks > 0:
                self.ask(self.goal.cancel_goal_async())
            elif self.stage == 'canceled':
                self.ask(self.goal.get_result_async())
            return
        if not self.future.done():
            if time.monotonic() - self.asked > PATIENCE:
                tell('unanswered', self.other, 'action/' + self.stage)
                self.lost += 1
                self.future = None
            return
        answer, self.future = self.future.result(), None
        if self.stage in ('goal', 'endless'):
            if not answer.accepted:
                tell('wrong', 'action', self.other, 'not accepted')
            self.goal, self.feedbacks = answer, 0
            if self.stage == 'goal':
                tell('action', self.other, 'accepted')
            self.stage = 'result' if self.stage == 'goal' else 'cancel'
        elif self.stage == 'result':
            if answer.status != GoalStatus.STATUS_SUCCEEDED or answer.result.transform.child_frame_id != f'{self.other}/goal':
                tell('wrong', 'action', self.other, answer.status, answer.result.transform.child_frame_id)
            tell('action', self.other, 'result')
            self.stage = 'endless'
        elif self.stage == 'cancel':
            self.stage = 'canceled'
        else:
            if answer.status != GoalStatus.STATUS_CANCELED:
                tell('wrong', 'action', self.other, answer.status)
            tell('action', self.other, 'canceled')
            self.stage = 'done'

    def feedback(self, _):
        self.feedbacks += 1
        if not self.told:
            self.told = True
            tell('action', self.other, 'feedback')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('name')
    parser.add_argument('--hear', action='append', default=[])
    parser.add_argument('--call', action='append', default=[])
    for option, default in ('topics', 200), ('services', 50), ('map', 1 << 20), ('image', 100_000):
        parser.add_argument('--' + option, type=int, default=default)
    args = parser.parse_args()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # it is to end at once
    node = Node(args.name)
    offers = Offers(node, args)
    hears = [Hears(node, args, other) for other in args.hear]
    calls = [Calls(node, args, other) for other in args.call]
    known, whole = set(), set()

    def look():
        for name in set(node.get_node_names()) & set(args.hear) - known:
            known.add(name)
            tell('node', name)
        for name in known - whole:
            try:
                n = len(node.get_publisher_names_and_types_by_node(name, '/'))
            except NodeNameNonExistentError:
                continue
            if n >= args.topics + PUBLISHED:
                whole.add(name)
                tell('graph', name, n)

    def count():
        tell('counts', *(f'{h.other}: {len(h.topics)} topics {h.counts}' for h in hears),
             *(f'{c.other}: {len(c.waiting)} services to answer, action {c.stage}' for c in calls), 'ticks', offers.ticks)

    node.create_timer(0.05, look)
    node.create_timer(2.0, count)
    tell('ready')
    rclpy.spin(node)


main()
