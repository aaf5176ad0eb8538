package rosdds

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// options are those of peers/peer.c, and --mapping for a client: whose mapping of services it speaks.
type options struct {
	mode, name, mapping               string
	reliable, transientLocal, keepAll bool
	depth, domain, count, match       int
	sizes                             []int // of the samples in turns
	rate, timeout, replyTimeout       float64
	stay, warm                        bool
	request, reply, topic             string
}

func parse(args []string) (o options, err error) {
	o = options{reliable: true, depth: 10, count: 10, rate: 10, sizes: []int{64}, match: 1, timeout: 30, replyTimeout: 5, mapping: string(FastDDS)}
	if len(args) == 0 {
		return o, errors.New("pub, sub, client or server is missing")
	}
	switch o.mode = args[0]; o.mode {
	case "pub", "sub":
		o.name = "chatter"
	case "client", "server":
		o.name = "echo"
	default:
		return o, fmt.Errorf("unknown mode %q", o.mode)
	}
	flags := map[string]func(){
		"--reliable": func() { o.reliable = true }, "--best-effort": func() { o.reliable = false },
		"--volatile": func() { o.transientLocal = false }, "--transient-local": func() { o.transientLocal = true },
		"--keep-all": func() { o.keepAll = true }, "--stay": func() { o.stay = true },
		"--warm": func() { o.warm = true },
	}
	texts := map[string]*string{"--name": &o.name, "--mapping": &o.mapping}
	ints := map[string]*int{"--depth": &o.depth, "--domain": &o.domain, "--count": &o.count, "--match": &o.match}
	floats := map[string]*float64{"--rate": &o.rate, "--timeout": &o.timeout, "--reply-timeout": &o.replyTimeout}
	for i := 1; i < len(args); i++ {
		if f, ok := flags[args[i]]; ok {
			f()
			continue
		}
		if i+1 == len(args) {
			return o, fmt.Errorf("unknown option or no value: %s", args[i])
		}
		name, value := args[i], args[i+1]
		i++
		if p, ok := texts[name]; ok {
			*p = value
		} else if name == "--size" {
			o.sizes = nil
			for one := range strings.SplitSeq(value, ",") {
				n, e := strconv.Atoi(one)
				if e != nil {
					return o, e
				}
				o.sizes = append(o.sizes, n)
			}
		} else if p, ok := ints[name]; ok {
			*p, err = strconv.Atoi(value)
		} else if p, ok := floats[name]; ok {
			*p, err = strconv.ParseFloat(value, 64)
		} else {
			err = fmt.Errorf("unknown option %s", name)
		}
		if err != nil {
			return o, err
		}
	}
	o.topic, o.request, o.reply = "rt/"+o.name, "rq/"+o.name+"Request", "rr/"+o.name+"Reply"
	return o, nil
}

// size is that of sample n, from 1.
func (o *options) size(n uint64) int { return o.sizes[int((n-1)%uint64(len(o.sizes)))] }
