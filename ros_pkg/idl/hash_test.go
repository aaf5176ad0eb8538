package idl

import (
	"os"
	"strings"
	"testing"
)

// Hashes that ROS 2 publishes or that its programs print. The first group stands in ROS's own sources: rosidl_runtime_c/src/type_description
// (as bytes) and rmw_zenoh's design.md. The others are what nodes of ROS 2 Jazzy and Lyrical announce.
var published = map[string]string{
	"type_description_interfaces/msg/FieldType":                 "RIHS01_a70b6dd919645a03a3586f7f821defbc886ea3e531a1d95cc0f380a3973ccaa6",
	"type_description_interfaces/msg/Field":                     "RIHS01_c0b01379cd4226281285ccaf6be46653968f855f7c5e41614ff5d7a854efef7c",
	"type_description_interfaces/msg/IndividualTypeDescription": "RIHS01_55c827d86c3c141bdd318fe6c22e11190e4d3b37c8f4f9751a084aa05ce96560",
	"type_description_interfaces/msg/KeyValue":                  "RIHS01_274fe56bf14f33c7512e34c646a37579ee36779f745f049a9760763e817f0c42",
	"type_description_interfaces/msg/TypeDescription":           "RIHS01_739f2508c9fa3a6f330913ff5b9d25fb74159a077da71e1087f51a60c12a080b",
	"type_description_interfaces/msg/TypeSource":                "RIHS01_faeaec7596c04ecf5b6e99ad225e4c7cbb997ad5435f793526fb3984d011aae5",
	"std_msgs/msg/String":                                       "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
	"example_interfaces/srv/AddTwoInts":                         "RIHS01_e118de6bf5eeb66a2491b5bda11202e7b68f198d6f67922cf30364858239c81a",

	"type_description_interfaces/srv/GetTypeDescription": "RIHS01_69b9c19c1021405984cc60dbbb1edceb147a6538b411d812ba6afabeed962cd5",
	"rmw_dds_common/msg/ParticipantEntitiesInfo":         "RIHS01_91a0593bacdcc50ea9bdcf849a938b128412cc1ea821245c663bcd26f83c295e",
	"std_msgs/msg/Bool":                          "RIHS01_feb91e995ff9ebd09c0cb3d2aed18b11077585839fb5db80193b62d74528f6c9",
	"std_msgs/msg/Empty":                         "RIHS01_20b625256f32d5dbc0d04fee44f43c41e51c70d3502f84b4a08e7a9c26a96312",
	"std_msgs/msg/Header":                        "RIHS01_f49fb3ae2cf070f793645ff749683ac6b06203e41c891e17701b1cb597ce6a01",
	"std_msgs/msg/Int32":                         "RIHS01_b6578ded3c58c626cfe8d1a6fb6e04f706f97e9f03d2727c9ff4e74b1cef0deb",
	"std_srvs/srv/Empty":                         "RIHS01_5888399dedec5ccc85ea6451949fd2c9f97bfdf963f9a588821639fcd31b5d19",
	"std_srvs/srv/SetBool":                       "RIHS01_abe9e4bb6b41b40e6789712c00ec8871923e089af3f667a79992a428cff2da0a",
	"std_srvs/srv/SetBool_Request":               "RIHS01_c62fbb99d94e1b25e8ef9e109f9581956bb1b3361a45a4e5810c36a90d29932e",
	"std_srvs/srv/SetBool_Response":              "RIHS01_d0814e7f7b4880ab77e9c57426c7aa1562ab69f11eef8e2e968812f9cbd0b059",
	"std_srvs/srv/SetBool_Event":                 "RIHS01_3c4c20015afb4303eafd347b1d6a786f171a89c814726961a9593ef10df878cf",
	"std_srvs/srv/Trigger":                       "RIHS01_eeff2cd6fa5ad9d27cdf4dec64818317839b62f212a91e6b5304b634b2062c5f",
	"rosgraph_msgs/msg/Clock":                    "RIHS01_692f7a66e93a3c83e71765d033b60349ba68023a8c689a79e48078bcb5c58564",
	"rcl_interfaces/msg/Log":                     "RIHS01_e28ce254ca8abc06abf92773b74602cdbf116ed34fbaf294fb9f81da9f318eac",
	"rcl_interfaces/msg/ParameterEvent":          "RIHS01_043e627780fcad87a22d225bc2a037361dba713fca6a6b9f4b869a5aa0393204",
	"rcl_interfaces/srv/DescribeParameters":      "RIHS01_845b484d71eb0673dae682f2e3ba3c4851a65a3dcfb97bddd82c5b57e91e4cff",
	"rcl_interfaces/srv/GetParameters":           "RIHS01_bf9803d5c74cf989a5de3e0c2e99444599a627c7ff75f97b8c05b01003675cbc",
	"rcl_interfaces/srv/GetParameterTypes":       "RIHS01_da199c878688b3e530bdfe3ca8f74cb9fa0c303101e980a9e8f260e25e1c80ca",
	"rcl_interfaces/srv/ListParameters":          "RIHS01_3e6062bfbb27bfb8730d4cef2558221f51a11646d78e7bb30a1e83afac3aad9d",
	"rcl_interfaces/srv/SetParameters":           "RIHS01_56eed9a67e169f9cb6c1f987bc88f868c14a8fc9f743a263bc734c154015d7e0",
	"rcl_interfaces/srv/SetParametersAtomically": "RIHS01_0e192ef259c07fc3c07a13191d27002222e65e00ccec653ca05e856f79285fcd",
	"diagnostic_msgs/msg/DiagnosticArray":        "RIHS01_5a8a36efb05fb25070fa0fb3810290c0e6cd4862b54a8fb975a1ee8dc55a333e",
	"visualization_msgs/msg/MarkerArray":         "RIHS01_86cb8800b6fb05b5eff1abd7a56f62a5641d3ae9a1c29e78e67e704f1d067dcf",
}

// shared returns the definitions of the standard packages.
func shared(t testing.TB) *Set {
	t.Helper()
	set := new(Set)
	if _, err := set.AddShare(os.DirFS("../interfaces/share")); err != nil {
		t.Fatal(err)
	}
	return set
}

func TestPublishedHashes(t *testing.T) {
	set := shared(t)
	set.Add(mustParse(t, "example_interfaces/srv/AddTwoInts", "int64 a\nint64 b\n---\nint64 sum\n"))
	for typ, want := range published {
		name, err := ParseName(typ)
		if err != nil {
			t.Fatal(err)
		}
		got, err := set.Hash(name)
		if err != nil {
			t.Error(err)
		} else if got != want {
			t.Errorf("%s: %s, ROS has %s", typ, got, want)
		}
	}
}

// TestHashesOfRosidl compares with what ROS's own generator made of the same files: every message and service, and the parts of services.
func TestHashesOfRosidl(t *testing.T) {
	set := shared(t)
	if err := set.AddPackage("hnet_bridge", os.DirFS("../..")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/rosidl.txt")
	if err != nil {
		t.Fatal(err)
	}
	compared := map[Name]bool{}
	for line := range strings.Lines(string(text)) {
		typ, want, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || typ == "#" {
			continue
		}
		name, err := ParseName(typ)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := set.Hash(name); err != nil || got != want {
			t.Errorf("%s: %s, ROS has %s (%v)", typ, got, want, err)
		}
		compared[name] = true
	}
	for name := range set.files {
		if !compared[name] {
			hash, err := set.Hash(name)
			t.Errorf("%s is not in testdata/rosidl.txt; here it has %s (%v)", name, hash, err)
		}
	}
}

// TestHashedText pins the text that is hashed, as REP 2016 has it.
func TestHashedText(t *testing.T) {
	set := new(Set)
	set.Add(mustParse(t, "p/msg/A", "B[<=3] bs 	# not hashed\nstring<=7[2] s [\"x\", 'y,z']\nint32 K=1\nchar c 5\n"))
	set.Add(mustParse(t, "p/msg/B", ""))
	d, err := set.Describe(Name{"p", "msg", "A"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type_description": {"type_name": "p/msg/A", "fields": [` +
		`{"name": "bs", "type": {"type_id": 97, "capacity": 3, "string_capacity": 0, "nested_type_name": "p/msg/B"}}, ` +
		`{"name": "s", "type": {"type_id": 69, "capacity": 2, "string_capacity": 7, "nested_type_name": ""}}, ` +
		`{"name": "c", "type": {"type_id": 3, "capacity": 0, "string_capacity": 0, "nested_type_name": ""}}]}, ` +
		`"referenced_type_descriptions": [{"type_name": "p/msg/B", "fields": [` +
		`{"name": "structure_needs_at_least_one_member", "type": {"type_id": 3, "capacity": 0, "string_capacity": 0, "nested_type_name": ""}}]}]}`
	if got := string(d.appendJSON(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for i, want := range []string{"", "('x', 'y,z')", "5"} {
		if got := d.Type.Fields[i].Default; got != want {
			t.Errorf("default of %s: %q, want %q", d.Type.Fields[i].Name, got, want)
		}
	}
}

// TestDefaultTexts: default values as ROS's generator writes them into descriptions, which Python does.
func TestDefaultTexts(t *testing.T) {
	f := mustParse(t, "p/msg/T", "bool a true\nfloat32 b 3.1415\nfloat64 c 1234567\nfloat64 d 1e16\nfloat64 e 0.00001\nfloat32 f nan\nfloat64[2] g [inf, -inf]\n"+
		"string h 'it\\'s'\nstring[] i ['a\\'b', \"c\\\"d\"]\nuint8[] j [1]\nbool[2] k [true, false]\nint8 l -5\nfloat64 m -0.0001\n")
	want := []string{"True", "3.1415", "1234567.0", "1e+16", "1e-05", "nan", "(inf, -inf)", "it's", `("a'b", 'c"d')`, "(1,)", "(True, False)", "-5", "-0.0001"}
	for i, d := range describeMessage(f.Message).Fields {
		if d.Default != want[i] {
			t.Errorf("%s: %s, want %s", d.Name, d.Default, want[i])
		}
	}
}

func TestCircles(t *testing.T) {
	set := new(Set)
	set.Add(mustParse(t, "p/msg/A", "B b\n"))
	set.Add(mustParse(t, "p/msg/B", "C[] c\n"))
	set.Add(mustParse(t, "p/msg/C", "B b\n"))
	set.Add(mustParse(t, "p/msg/Me", "Me me\n"))
	set.Add(mustParse(t, "p/msg/Lost", "q/Nothing n\n"))
	for _, name := range []string{"A", "B", "C", "Me", "Lost", "None"} {
		if d, err := set.Describe(Name{"p", "msg", name}); err == nil {
			t.Errorf("%s: described as %v", name, d)
		}
	}
}
