package api

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
)

// FuzzRequest reads bytes as every request there is: they are refused with an [*Error] of one line, or sound.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"address":"fc94::1","hostname":"robot2","endpoint":"1.2.3.4:5"}`))
	f.Add([]byte(`{"name":"a","address":"fc94::2"}`))
	f.Add([]byte(`{"enabled":true}`))
	f.Add([]byte(`{"peer":"robot2","timeout_ms":1000}`))
	f.Add([]byte(`{"address":"fc94::1","psk":"AAAA"}`))
	f.Add([]byte(`[[[[{"a":1e999}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []interface{ check() error }{new(WhitelistAdd), new(HostAdd), new(enableRequest), new(waitRequest)} {
			err := decode(bytes.NewReader(data), v)
			if err == nil {
				err = v.check()
			}
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || e.status() == 500 || e.Text == "" || strings.ContainsAny(e.Error(), "\n\r") {
					t.Errorf("%T: %#v", v, err)
				}
				continue
			}
			switch v := v.(type) {
			case *WhitelistAdd:
				if config.CheckAddress(v.Address) != nil || len(v.PSK) != 0 && len(v.PSK) != 32 {
					t.Errorf("accepted %+v", v)
				}
			case *HostAdd:
				if config.CheckAddress(v.Address) != nil || v.Name == "" || len(v.Name) > maxName {
					t.Errorf("accepted %+v", v)
				}
			case *waitRequest:
				if v.timeout() <= 0 || v.timeout() > maxWait {
					t.Errorf("accepted %+v", v)
				}
			}
		}
	})
}
