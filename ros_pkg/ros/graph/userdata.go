package graph

import "strings"

// UserData returns the value of a key in the user data of a participant or endpoint, "key=value;key=value;". It is false without the key.
func UserData(data []byte, key string) (string, bool) {
	for part := range strings.SplitSeq(string(data), ";") {
		if k, v, ok := strings.Cut(part, "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}

// TypeHash is the key of an endpoint's type hash in its user data, from Iron on.
const TypeHash = "typehash"

// LayoutOf tells the layout that a reader or writer of ros_discovery_info has by its user data: type hashes came together with the new GIDs.
func LayoutOf(userData []byte) Layout {
	if _, ok := UserData(userData, TypeHash); ok {
		return Iron
	}
	return Humble
}
