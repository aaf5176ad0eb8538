package profile

import (
	"strings"
	"testing"
)

func TestMergeFastDDS(t *testing.T) {
	p := own()
	p.Relay, p.Mode = true, Both
	ours, err := FastDDS(p)
	if err != nil {
		t.Fatal(err)
	}
	const relay = "<port>7402</port>"
	for name, test := range map[string]struct {
		own  string
		want []string // in the result, once each
		not  []string
	}{
		"writers alone": {
			`<profiles><!-- mine --><data_writer profile_name="w"><times/></data_writer></profiles>`,
			[]string{"<!-- mine -->", `profile_name="w"`, `profile_name="hnet" is_default_profile="true"`, relay, "<transport_id>hnet_overlay</transport_id>\n        <type>"}, nil,
		},
		"a writer named as ours": {
			`<profiles><data_writer profile_name="service"><times/></data_writer></profiles>`,
			[]string{`<data_writer profile_name="service"><times/>`, `profile_name="service"`, `profile_name="hnet_writer"`, relay}, nil,
		},
		"in dds": {
			`<dds xmlns="x"><profiles></profiles></dds>`,
			[]string{`profile_name="hnet" is_default_profile="true"`, relay}, nil,
		},
		"a default participant": {
			`<dds><profiles><participant profile_name="mine" is_default_profile="true"><domainId>3</domainId><rtps><name>r</name></rtps></participant></profiles></dds>`,
			[]string{"<name>r</name>", relay, "<useBuiltinTransports>false</useBuiltinTransports>", "<userTransports>", "<domainId>3</domainId>"}, []string{`profile_name="hnet"`},
		},
		"with transports and peers of its own": {
			`<profiles><transport_descriptors><transport_descriptor><transport_id>t</transport_id><type>TCPv4</type></transport_descriptor></transport_descriptors>
			<participant profile_name="mine" is_default_profile="1"><rtps><userTransports><transport_id>t</transport_id></userTransports>
			<useBuiltinTransports>true</useBuiltinTransports><builtin><initialPeersList><locator><udpv4><address>10.0.0.9</address></udpv4></locator></initialPeersList></builtin></rtps></participant></profiles>`,
			[]string{"10.0.0.9", relay, "<transport_descriptors>", "<userTransports>", "<initialPeersList>", "<useBuiltinTransports>true"}, []string{"<useBuiltinTransports>false"},
		},
		"another is the default of writers": {
			`<profiles><publisher profile_name="mine" is_default_profile="true"></publisher></profiles>`,
			[]string{`profile_name="mine"`, relay}, []string{"<data_writer"},
		},
		"not the default": {
			`<profiles><participant profile_name="mine"><rtps/></participant></profiles>`,
			[]string{`<participant profile_name="mine"><rtps/>`, `profile_name="hnet" is_default_profile="true"`}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := MergeFastDDS([]byte(test.own), ours)
			if err != nil {
				t.Fatal(err)
			}
			if err := wellFormed(got); err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			if problem := Check(got, p); problem != nil {
				t.Errorf("%s", problem.Text)
			}
			for _, want := range test.want {
				if n := strings.Count(string(got), want); n != 1 {
					t.Errorf("%d times %s\n%s", n, want, got)
				}
			}
			for _, not := range test.not {
				if strings.Contains(string(got), not) {
					t.Errorf("it has %s\n%s", not, got)
				}
			}
			// All of theirs is there, in order.
			rest := string(got)
			for _, piece := range strings.SplitAfter(test.own, ">") {
				i := strings.Index(rest, piece)
				if i < 0 {
					t.Fatalf("%s is gone\n%s", piece, got)
				}
				rest = rest[i+len(piece):]
			}
		})
	}
	for own, want := range map[string]string{
		"":                                "no valid XML",
		"<a/>":                            "it has no <profiles>: its outermost element is <a>",
		"<profiles/>":                     "has no end of its own",
		"<profiles><a></profiles>":        "no valid XML",
		"<dds><log/></dds>":               "it has no <profiles>",
		strings.Repeat("<a>", 100):        "too many elements",
		strings.Repeat(" ", MaxProfile+1): "larger than",
		`<profiles><participant is_default_profile="true"><rtps/></participant></profiles>`:                                                                                                            "its <rtps/> has no end",
		`<profiles><participant is_default_profile="true"><rtps><builtin/></rtps></participant></profiles>`:                                                                                            "its <builtin/> has no end",
		`<profiles><participant is_default_profile="true"/></profiles>`:                                                                                                                                "its default <participant/> has no end",
		`<profiles><participant is_default_profile="true"><rtps><userTransports/></rtps></participant></profiles>`:                                                                                     "its <userTransports/> has no end",
		`<profiles><participant is_default_profile="true"><rtps><builtin><discovery_config><discoveryProtocol>CLIENT</discoveryProtocol></discovery_config></builtin></rtps></participant></profiles>`: "discovery protocol CLIENT",
	} {
		if got, err := MergeFastDDS([]byte(own), ours); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, %s, want %q", own, err, got, want)
		}
	}
}

func FuzzMergeFastDDS(f *testing.F) {
	ours, err := FastDDS(own())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`<dds><profiles><participant is_default_profile="true"><rtps></rtps></participant></profiles></dds>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := MergeFastDDS(b, ours); err == nil && wellFormed(got) != nil {
			t.Errorf("damaged: %q", got)
		}
	})
}
