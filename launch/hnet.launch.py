"""
Launches the node /hnet, and the overlay daemon hnetd where none runs.

'ros2 launch hnet_bridge hnet.launch.py -s' lists the arguments. To remap the node's topics and services, include this file in a group with SetRemap.
"""

import json
import os
import shutil
import socket
import subprocess

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, LogInfo, OpaqueFunction, RegisterEventHandler, SetEnvironmentVariable
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

PACKAGE = 'hnet_bridge'

# What a user who may not start hnetd can do about it.
HELP = (
    "install hnetd as a service with 'sudo {bin}/hnet service-install', or start it with 'sudo {bin}/hnetd'; "
    'the node finds it as soon as it runs'
)

# sudo belongs to root: launch could not end it. A shell of this user's stands between them.
WITH_SUDO = 'sudo -n "$@" & pid=$!; trap "sudo -n kill $pid" INT TERM; wait $pid; wait $pid'


def declare(name, default, description, choices=None):
    return DeclareLaunchArgument(name, default_value=default, description=description, choices=choices)


def arguments():
    boolean = ['true', 'false']
    share = get_package_share_directory(PACKAGE)
    return [
        declare('namespace', '', 'Namespace of the node, e.g. the name of the robot'),
        declare('name', 'hnet', 'Name of the node'),
        declare('params_file', os.path.join(share, 'config', 'params.yaml'), 'File with the parameters of the node'),
        declare('log_level', 'info', 'Least level of log messages: debug, info, warn, error or fatal'),
        declare('respawn', 'false', 'Whether to start the node again when it ends', boolean),
        declare('run_folder', os.environ.get('HNET_RUN', '/run/hnet'), 'Folder of hnetd\'s socket; goes before the parameter in params_file'),
        declare('start_daemon', 'true', 'Whether to start hnetd if none answers in run_folder; needs root or sudo without a password', boolean),
        declare('daemon_config', os.environ.get('HNET_CONFIG', '/etc/hnet/hnet.yaml'), 'Configuration file of a hnetd started here; may be missing'),
        declare('daemon_state', os.environ.get('HNET_STATE', '/var/lib/hnet'), 'Folder where a hnetd started here keeps its identity and whitelist'),
        declare('dds_profiles', 'true', 'Whether what is launched after this uses the DDS profiles that hnetd has written', boolean),
        declare('embedded', 'false', 'Whether the node hosts the overlay itself, with daemon_config and daemon_state, instead of using hnetd; needs root', boolean),
    ]


def answers(run_folder):
    """Tell whether a daemon listens in this folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(2)
        try:
            s.connect(os.path.join(run_folder, 'hnetd.sock'))
        except OSError:
            return False
        return True


def may_sudo():
    if shutil.which('sudo') is None:
        return False
    return subprocess.run(['sudo', '-n', 'true'], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def daemon(context):
    """Start hnetd unless it runs, is not wanted or cannot be started."""
    def get(name):
        return LaunchConfiguration(name).perform(context)

    if get('start_daemon') != 'true' or get('embedded') == 'true':
        return []
    run_folder = get('run_folder')
    if answers(run_folder):
        return [LogInfo(msg='hnetd runs already in ' + run_folder)]
    programs = os.path.join(get_package_prefix(PACKAGE), 'lib', PACKAGE)
    command = [
        os.path.join(programs, 'hnetd'),
        '--config', get('daemon_config'), '--state', get('daemon_state'), '--run', run_folder,
    ]
    if os.geteuid() != 0:
        if not may_sudo():
            return [LogInfo(msg='hnetd does not run, and this user may not start it: ' + HELP.format(bin=programs))]
        command = ['sh', '-c', WITH_SUDO, 'sh'] + command
    process = ExecuteProcess(cmd=command, name='hnetd', output='screen')

    def ended(event, context):
        if event.returncode == 0 or context.is_shutdown:
            return []
        return [LogInfo(msg='hnetd ended with code {}; its last lines say why. {}'.format(event.returncode, HELP.format(bin=programs)))]

    return [RegisterEventHandler(OnProcessExit(target_action=process, on_exit=ended)), process]


def dds_profiles(context):
    """Put the DDS profiles in force, as 'hnet dds env' does in a shell. None are there before hnetd has run for the first time."""
    if LaunchConfiguration('dds_profiles').perform(context) != 'true':
        return []
    hnet = os.path.join(get_package_prefix(PACKAGE), 'lib', PACKAGE, 'hnet')
    environment = dict(
        os.environ,
        HNET_CONFIG=LaunchConfiguration('daemon_config').perform(context),
        HNET_STATE=LaunchConfiguration('daemon_state').perform(context),
    )
    try:
        result = subprocess.run([hnet, '--json', 'dds', 'env'], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
        variables = json.loads(result.stdout) if result.returncode == 0 else {}
        why = result.stderr.strip()
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        variables, why = {}, str(error)
    told = [LogInfo(msg='DDS profiles: ' + why)] if why else []
    return told + [SetEnvironmentVariable(name, value) for name, value in variables.items()]


def node(context):
    def get(name):
        return LaunchConfiguration(name).perform(context)

    parameters = {'run_folder': get('run_folder')}
    if get('embedded') == 'true':
        parameters.update(embedded=True, config_file=get('daemon_config'), state_folder=get('daemon_state'))
    return [Node(
        package=PACKAGE,
        executable='hnet_bridge',
        name=get('name'),
        namespace=get('namespace'),
        parameters=[get('params_file'), parameters],
        arguments=['--ros-args', '--log-level', get('log_level')],
        output='screen',
        emulate_tty=True,
        respawn=get('respawn') == 'true',
        respawn_delay=2.0,
    )]


def generate_launch_description():
    return LaunchDescription(arguments() + [OpaqueFunction(function=daemon), OpaqueFunction(function=dds_profiles), OpaqueFunction(function=node)])
