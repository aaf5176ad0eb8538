package command

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// profileVariables name the DDS profile that programs started from this shell would read.
var profileVariables = []string{profile.CycloneVariable, profile.FastDDS3Variable, profile.FastDDSVariable}

// checkDDS adds what only the user's own environment tells: whether programs started from here would use the overlay.
func (a *app) checkDDS(ctx context.Context, c *api.Client, d *api.Diagnosis) {
	check, cause, fix := a.ddsCheck(ctx, c)
	if check.Name == "" {
		return
	}
	if i := slices.IndexFunc(d.Checks, func(x api.Check) bool { return x.Name == check.Name }); i >= 0 {
		d.Checks[i] = check
	} else {
		d.Checks = append(d.Checks, check)
	}
	if d.Cause == "" && cause != "" {
		d.Cause, d.Fix = cause, fix
	}
}

func (a *app) ddsCheck(ctx context.Context, c *api.Client) (check api.Check, cause, fix string) {
	check = api.Check{Name: "dds", Status: api.CheckSkip, Detail: "no DDS profile in the environment of this shell"}
	var good []string
	for _, v := range profileVariables {
		value := a.Getenv(v)
		if value == "" {
			continue
		}
		params, err := a.profileParams(ctx, c)
		if err != nil {
			return check, "", ""
		}
		problem := checkProfile(value, params)
		if problem == nil {
			good = append(good, v)
			continue
		}
		check.Status, check.Detail = api.CheckWarn, v+": "+problem.Text
		cause = "the DDS profile that " + v + " names cannot bring all peers together: " + problem.Text
		return check, cause, "eval \"$(hnet dds env)\", and start the DDS programs again"
	}
	if len(good) > 0 {
		check.Status, check.Detail = api.CheckOK, strings.Join(good, ", ")+": fits this node and its peers"
	}
	return check, "", ""
}

// checkProfile checks a profile given by a path, by a file: URL, or as Cyclone DDS allows by itself or in a list, of which one must fit.
func checkProfile(value string, p profile.Params) (problem *profile.Problem) {
	for _, item := range cycloneList(value) {
		if problem = checkItem(strings.TrimSpace(item), p); problem == nil {
			return nil
		}
	}
	return problem
}

func checkItem(value string, p profile.Params) *profile.Problem {
	if strings.HasPrefix(strings.TrimSpace(value), "<") {
		return checkText([]byte(value), p)
	}
	path := value
	if u, err := url.Parse(value); err == nil && u.Scheme == "file" {
		path = u.Path
	}
	f, err := os.Open(path)
	if err != nil {
		return &profile.Problem{Text: err.Error()}
	}
	defer f.Close()
	text := make([]byte, profile.MaxProfile+1)
	n := 0
	for n < len(text) {
		m, err := f.Read(text[n:])
		n += m
		if err != nil {
			break
		}
	}
	return checkText(text[:n], p)
}

// checkText accepts a profile that names all peers, and one that leaves them to hnetd.
func checkText(text []byte, p profile.Params) *profile.Problem {
	problem := profile.Check(text, p)
	if problem == nil {
		return nil
	}
	p.Relay = true
	if profile.Check(text, p) == nil {
		return nil
	}
	return problem
}
