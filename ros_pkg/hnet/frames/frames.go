// Package frames knows where coordinate frames are, from what is said on /tf and /tf_static. It keeps the newest transform of each frame and nothing of
// the past.
package frames

import (
	"math"
	"strings"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/geometry_msgs"
)

const (
	// maxFrames bounds the frames that are kept; a robot has some dozens.
	maxFrames = 4096
	// maxDepth bounds the way from a frame to the root of its tree.
	maxDepth = 128
	// maxName bounds the length of a frame's name, in bytes.
	maxName = 256
	// Age is how long a transform that is not static is believed.
	Age = 10 * time.Second
)

// Buffer is the frames. Its zero value is empty; it is safe for concurrent use.
type Buffer struct {
	mu     sync.Mutex
	frames map[string]edge
	swept  time.Time
}

// edge leads from a frame to its parent: a point of the frame is rotated, then moved.
type edge struct {
	parent   string
	rotation quaternion
	move     geometry_msgs.Vector3
	heard    time.Time // zero = static
}

type quaternion struct{ x, y, z, w float64 }

// Put takes transforms. Those that make no sense are ignored, new ones also while there are too many frames.
func (b *Buffer) Put(now time.Time, static bool, transforms []geometry_msgs.TransformStamped) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.frames == nil {
		b.frames = make(map[string]edge)
	}
	for i := range transforms {
		t := &transforms[i]
		child, parent := clean(t.ChildFrameID), clean(t.Header.FrameID)
		r := t.Transform.Rotation
		q, ok := normal(quaternion{r.X, r.Y, r.Z, r.W})
		if child == "" || parent == "" || child == parent || len(child) > maxName || len(parent) > maxName || !ok || !finite(t.Transform.Translation) {
			continue
		}
		if _, known := b.frames[child]; !known && len(b.frames) >= maxFrames && !b.sweep(now) {
			continue
		}
		e := edge{parent: parent, rotation: q, move: t.Transform.Translation}
		if !static {
			e.heard = now
		}
		b.frames[child] = e
	}
}

// sweep forgets what is old, and reports whether that made room. It looks once a second at most.
func (b *Buffer) sweep(now time.Time) bool {
	if now.Sub(b.swept) < time.Second {
		return false
	}
	b.swept = now
	for name, e := range b.frames {
		if e.old(now) {
			delete(b.frames, name)
		}
	}
	return len(b.frames) < maxFrames
}

func (e *edge) old(now time.Time) bool { return !e.heard.IsZero() && now.Sub(e.heard) > Age }

// Locate finds the origin of a frame in another frame. It is false if they are not connected.
func (b *Buffer) Locate(now time.Time, frame, in string) (geometry_msgs.Point, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	frame, in = clean(frame), clean(in)
	if frame == "" || in == "" {
		return geometry_msgs.Point{}, false
	}
	way, root, ok := b.up(now, frame)
	if !ok {
		return geometry_msgs.Point{}, false
	}
	back, root2, ok := b.up(now, in)
	if !ok || root != root2 {
		return geometry_msgs.Point{}, false
	}
	var p geometry_msgs.Vector3
	for _, e := range way {
		p = add(e.rotation.rotate(p), e.move)
	}
	for i := len(back) - 1; i >= 0; i-- {
		p = back[i].rotation.conjugate().rotate(sub(p, back[i].move))
	}
	if !finite(p) {
		return geometry_msgs.Point{}, false
	}
	return geometry_msgs.Point(p), true
}

// up is the way from a frame to the root of its tree. It is false if there is none, since frames are in a circle.
func (b *Buffer) up(now time.Time, frame string) (way []edge, root string, ok bool) {
	for range maxDepth {
		e, known := b.frames[frame]
		if !known || e.old(now) {
			return way, frame, true
		}
		way = append(way, e)
		frame = e.parent
	}
	return nil, "", false
}

// clean takes away the slash with which names began in ROS 1.
func clean(name string) string { return strings.TrimPrefix(name, "/") }

func normal(q quaternion) (quaternion, bool) {
	n := math.Sqrt(q.x*q.x + q.y*q.y + q.z*q.z + q.w*q.w)
	if !(n > 1e-6) || math.IsInf(n, 0) {
		return q, false
	}
	return quaternion{q.x / n, q.y / n, q.z / n, q.w / n}, true
}

func (q quaternion) conjugate() quaternion { return quaternion{-q.x, -q.y, -q.z, q.w} }

// rotate returns q v q*.
func (q quaternion) rotate(v geometry_msgs.Vector3) geometry_msgs.Vector3 {
	u := geometry_msgs.Vector3{X: q.x, Y: q.y, Z: q.z}
	t := scale(2, cross(u, v))
	return add(add(v, scale(q.w, t)), cross(u, t))
}

func finite(v geometry_msgs.Vector3) bool {
	s := v.X + v.Y + v.Z
	return !math.IsNaN(s) && !math.IsInf(s, 0)
}

func add(a, b geometry_msgs.Vector3) geometry_msgs.Vector3 {
	return geometry_msgs.Vector3{X: a.X + b.X, Y: a.Y + b.Y, Z: a.Z + b.Z}
}

func sub(a, b geometry_msgs.Vector3) geometry_msgs.Vector3 { return add(a, scale(-1, b)) }

func scale(k float64, v geometry_msgs.Vector3) geometry_msgs.Vector3 {
	return geometry_msgs.Vector3{X: k * v.X, Y: k * v.Y, Z: k * v.Z}
}

func cross(a, b geometry_msgs.Vector3) geometry_msgs.Vector3 {
	return geometry_msgs.Vector3{X: a.Y*b.Z - a.Z*b.Y, Y: a.Z*b.X - a.X*b.Z, Z: a.X*b.Y - a.Y*b.X}
}
