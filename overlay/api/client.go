package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sys/unix"
)

const (
	callTimeout = workTimeout + 5*time.Second // for a call whose context has no deadline
	waitMargin  = 5 * time.Second             // that a waiting call gives the daemon beyond its timeout
	maxReply    = 16 << 20
)

// Client talks to hnetd. It is safe for concurrent use. Its methods are those of [Controller], and every error
// they return is an [*Error], but for those of the caller's context.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the daemon whose socket this is. It connects when it is used.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConns:       4,
		IdleConnTimeout:    idleTimeout / 2,
		DisableCompression: true,
	}}}
}

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks what the node knows of itself.
func (c *Client) Status(ctx context.Context) (v Status, err error) {
	return v, c.call(ctx, "GET", "/v1/status", nil, &v)
}

// ID asks for the node's address and public keys.
func (c *Client) ID(ctx context.Context) (v ID, err error) {
	return v, c.call(ctx, "GET", "/v1/id", nil, &v)
}

// Peers lists the peers.
func (c *Client) Peers(ctx context.Context) (v []Peer, err error) {
	return v, c.call(ctx, "GET", "/v1/peers", nil, &v)
}

// Whitelist asks for the whitelist.
func (c *Client) Whitelist(ctx context.Context) (v Whitelist, err error) {
	return v, c.call(ctx, "GET", "/v1/whitelist", nil, &v)
}

// WhitelistAdd lets a peer in, or updates its entry.
func (c *Client) WhitelistAdd(ctx context.Context, add WhitelistAdd) (v WhitelistEntry, err error) {
	return v, c.call(ctx, "POST", "/v1/whitelist", add, &v)
}

// WhitelistRemove shuts a peer, by address or hostname, out.
func (c *Client) WhitelistRemove(ctx context.Context, peer string) (v WhitelistEntry, err error) {
	return v, c.call(ctx, "DELETE", "/v1/whitelist/"+url.PathEscape(peer), nil, &v)
}

// WhitelistEnable turns the whitelist on, or off, which lets anyone in.
func (c *Client) WhitelistEnable(ctx context.Context, enabled bool) error {
	return c.call(ctx, "PUT", "/v1/whitelist/enabled", enableRequest{&enabled}, nil)
}

// Hosts lists the names.
func (c *Client) Hosts(ctx context.Context) (v []HostEntry, err error) {
	return v, c.call(ctx, "GET", "/v1/hosts", nil, &v)
}

// HostAdd gives an address a name.
func (c *Client) HostAdd(ctx context.Context, add HostAdd) (v HostEntry, err error) {
	return v, c.call(ctx, "POST", "/v1/hosts", add, &v)
}

// HostRemove takes a name away.
func (c *Client) HostRemove(ctx context.Context, name string) (v HostEntry, err error) {
	return v, c.call(ctx, "DELETE", "/v1/hosts/"+url.PathEscape(name), nil, &v)
}

// Resolve finds the address of a name, or the name of an address.
func (c *Client) Resolve(ctx context.Context, nameOrAddress string) (v HostEntry, err error) {
	return v, c.call(ctx, "GET", "/v1/resolve/"+url.PathEscape(nameOrAddress), nil, &v)
}

// Ping sends one probe to a peer, by address or hostname, and waits up to timeout for the answer.
func (c *Client) Ping(ctx context.Context, peer string, timeout time.Duration) (v PingResult, err error) {
	return v, c.wait(ctx, "/v1/ping", peer, timeout, &v)
}

// Connect starts contact with a peer, by address or hostname, and returns when it is connected.
func (c *Client) Connect(ctx context.Context, peer string, timeout time.Duration) (v Peer, err error) {
	return v, c.wait(ctx, "/v1/connect", peer, timeout, &v)
}

// Down removes the interface and stops the daemon.
func (c *Client) Down(ctx context.Context) error { return c.call(ctx, "POST", "/v1/down", nil, nil) }

func (c *Client) wait(ctx context.Context, path, peer string, timeout time.Duration, v any) error {
	timeout = max(min(timeout, maxWait), time.Millisecond)
	ctx, cancel := context.WithTimeout(ctx, timeout+waitMargin)
	defer cancel()
	return c.call(ctx, "POST", path, waitRequest{Peer: peer, Timeout: timeout.Milliseconds()}, v)
}

// call sends one request and reads its answer into v (nil: there is nothing in it).
func (c *Client) call(ctx context.Context, method, path string, body, v any) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return c.broken(ctx, err)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(data, v); err != nil {
		return &Error{Code: CodeFailed, Text: "cannot read hnetd's answer: " + err.Error(), Fix: "use the same version of hnet and hnetd"}
	}
	return nil
}

// send returns a response of status 200, any other as the error it carries.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var data []byte
	if method == http.MethodPost || method == http.MethodPut {
		data = []byte("{}")
	}
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, badRequest("cannot put the request into JSON: "+err.Error(), "")
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+hostName+path, bytes.NewReader(data))
	if err != nil {
		return nil, badRequest("cannot form the request: "+err.Error(), "")
	}
	if data != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var reply errorBody
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if json.Unmarshal(text, &reply) != nil || reply.Error == nil || reply.Error.Text == "" {
		return nil, &Error{Code: CodeFailed, Text: "hnetd answered " + resp.Status, Fix: "use the same version of hnet and hnetd"}
	}
	return nil, reply.Error
}

// broken words a failure to reach the daemon or to hear from it.
func (c *Client) broken(ctx context.Context, err error) error {
	const start = "start it with 'systemctl start hnetd' or 'hnetd'"
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return &Error{Code: CodeNotRunning, Text: "hnetd is not running (no socket at " + c.socket + ")", Fix: start}
	case errors.Is(err, unix.ECONNREFUSED):
		return &Error{Code: CodeNotRunning, Text: "hnetd is not running (nobody answers at " + c.socket + ")", Fix: start}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Code: CodeDenied, Text: "cannot open " + c.socket + ": permission denied", Fix: "its folder must be open to all users: chmod 755"}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeTimeout, Text: "hnetd does not answer at " + c.socket, Fix: "look at its log: journalctl -u hnetd"}
	case ctx.Err() != nil:
		return ctx.Err()
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		return &Error{Code: CodeNotRunning, Text: "hnetd hung up at " + c.socket, Fix: "it has just stopped, or has too many local connections: see 'systemctl status hnetd'"}
	}
	return &Error{Code: CodeNotRunning, Text: fmt.Sprintf("lost hnetd while it answered at %s: %v", c.socket, err), Fix: "it may have stopped: see 'systemctl status hnetd'"}
}

// Events is a stream of events. It is for one goroutine.
type Events struct {
	body io.Closer
	in   *json.Decoder
	fail func(error) error
}

// Subscribe opens a stream of events. What happens after it returned is in the stream, until ctx ends.
func (c *Client) Subscribe(ctx context.Context) (*Events, error) {
	resp, err := c.send(ctx, "GET", "/v1/events", nil)
	if err != nil {
		return nil, err
	}
	return &Events{body: resp.Body, in: json.NewDecoder(resp.Body), fail: func(err error) error { return c.broken(ctx, err) }}, nil
}

// Next waits for the next event. After an [EventOverflow] and when the daemon ends it returns io.EOF.
func (e *Events) Next() (ev Event, err error) {
	switch err := e.in.Decode(&ev); {
	case err == nil:
		return ev, nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
		return ev, io.EOF
	default:
		return ev, e.fail(err)
	}
}

// Close ends the stream.
func (e *Events) Close() error { return e.body.Close() }
