package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// completeTime bounds what pressing Tab may take.
const completeTime = time.Second

func (a *app) completion(root *cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "completion",
		Short: "Print a script that completes hnet's commands in a shell",
		Long: "Print a script that completes hnet's commands, and peers by name and address, in a shell.\nThe one for bash needs the package bash-completion.\n" +
			"  bash  hnet completion bash > /etc/bash_completion.d/hnet\n" +
			"  zsh   hnet completion zsh > \"${fpath[1]}/_hnet\"\n" +
			"  fish  hnet completion fish > ~/.config/fish/completions/hnet.fish",
	}
	group(cmd)
	shell := func(name string, write func() error) {
		cmd.AddCommand(&cobra.Command{
			Use:   name,
			Short: "Print the script for " + name,
			Args:  exactly(),
			RunE:  func(*cobra.Command, []string) error { return write() },
		})
	}
	shell("bash", func() error { return root.GenBashCompletionV2(a.Stdout, true) })
	shell("zsh", func() error { return root.GenZshCompletion(a.Stdout) })
	shell("fish", func() error { return root.GenFishCompletion(a.Stdout, true) })
	return cmd
}

// completeOnce completes the first argument with words from the daemon.
func (a *app) completeOnce(words func(context.Context, *api.Client) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.words(cmd.Context(), words), cobra.ShellCompDirectiveNoFileComp
	}
}

// words asks the daemon; without one there are none.
func (a *app) words(ctx context.Context, words func(context.Context, *api.Client) []string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	c := a.client()
	defer c.Close()
	return words(ctx, c)
}

// peerWords are the hostnames, and the addresses of those that have none.
func (a *app) peerWords(ctx context.Context, c *api.Client) []string {
	peers, _ := c.Peers(ctx)
	var words []string
	for _, p := range peers {
		words = append(words, word(p.Hostname, p.Address.String(), string(p.State)))
	}
	return words
}

// strangerWords are the addresses of known peers that are not whitelisted.
func (a *app) strangerWords(ctx context.Context, c *api.Client) []string {
	peers, _ := c.Peers(ctx)
	var words []string
	for _, p := range peers {
		if !p.Whitelisted {
			words = append(words, cobra.CompletionWithDesc(p.Address.String(), orNone(p.Hostname)))
		}
	}
	return words
}

func (a *app) addressWords(ctx context.Context, c *api.Client) []string {
	peers, _ := c.Peers(ctx)
	var words []string
	for _, p := range peers {
		words = append(words, cobra.CompletionWithDesc(p.Address.String(), orNone(p.Hostname)))
	}
	return words
}

func (a *app) whitelistWords(ctx context.Context, c *api.Client) []string {
	w, _ := c.Whitelist(ctx)
	var words []string
	for _, e := range w.Entries {
		words = append(words, word(e.Hostname, e.Address.String(), "whitelisted"))
	}
	return words
}

func (a *app) hostWords(ctx context.Context, c *api.Client) []string {
	hosts, _ := c.Hosts(ctx)
	var words []string
	for _, h := range hosts {
		words = append(words, cobra.CompletionWithDesc(printable(h.Name), h.Address.String()))
	}
	return words
}

func word(hostname, address, note string) string {
	if hostname == "" {
		return cobra.CompletionWithDesc(address, note)
	}
	return cobra.CompletionWithDesc(printable(hostname), address+" "+note)
}
