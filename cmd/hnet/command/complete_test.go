package command

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
)

func TestCompletion(t *testing.T) {
	run, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
	tests := []struct {
		args []string
		want []string
	}{
		{[]string{"ping", ""}, []string{"robot2", "phone", guest.Address().String(), "arm"}},
		{[]string{"wait", "peer", "r"}, []string{"robot2", "phone", guest.Address().String(), "arm"}}, // shells filter
		{[]string{"ping", "robot2", ""}, nil},
		{[]string{"whitelist", "rm", ""}, []string{"robot2", "arm"}},
		{[]string{"whitelist", "add", ""}, []string{guest.Address().String()}},
		{[]string{"host", "rm", ""}, []string{"robot2", "arm"}},
		{[]string{"host", "add", "x", ""}, []string{robot.Address().String(), phone.Address().String(), guest.Address().String(), away.Address().String()}},
		{[]string{"completion", ""}, []string{"bash", "fish", "zsh"}},
		{[]string{"whitelist", "e"}, []string{"enable"}},
	}
	for _, tt := range tests {
		w := newWorld(run)
		if code := Run(t.Context(), w.Env, append([]string{"__complete"}, tt.args...)); code != 0 {
			t.Fatalf("%v: exit code %d: %s", tt.args, code, w.err.String())
		}
		var got []string
		for line := range strings.Lines(w.out.String()) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); word != "" && word[0] != ':' {
				got = append(got, word)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.args, diff)
		}
	}
	// Without a daemon there is nothing to offer, and no error on the screen.
	w := newWorld(t.TempDir())
	if code := Run(t.Context(), w.Env, []string{"__complete", "ping", ""}); code != 0 || !strings.HasPrefix(w.out.String(), ":") {
		t.Errorf("exit code %d, %q", code, w.out.String())
	}
}

func TestCompletionScripts(t *testing.T) {
	for shell, want := range map[string]string{"bash": "__start_hnet", "zsh": "#compdef hnet", "fish": "complete -c hnet"} {
		w := newWorld(t.TempDir())
		if code := Run(t.Context(), w.Env, []string{"completion", shell}); code != 0 || !strings.Contains(w.out.String(), want) {
			t.Errorf("%s: exit code %d, no %q", shell, code, want)
		}
	}
}
