package command

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// topRow is one topic with one peer, in what is shown of it.
type topRow struct {
	peer, topic  string
	kind         api.TrafficKind
	lane         string
	typ          string
	tx, rx       float64 // bytes, per second or in all
	txHz, rxHz   float64 // samples, the same
	sent         float64 // pieces, the same
	resent, lost float64
}

// order is something to sort by.
type order struct {
	name string
	by   func(a, b *topRow) int // the natural order: largest first, names from a on
}

func largest(of func(*topRow) float64) func(a, b *topRow) int {
	return func(a, b *topRow) int { return cmp.Compare(of(b), of(a)) }
}

var orders = []order{
	{"TX+RX", largest(func(r *topRow) float64 { return r.tx + r.rx })},
	{"TX", largest(func(r *topRow) float64 { return r.tx })},
	{"RX", largest(func(r *topRow) float64 { return r.rx })},
	{"HZ", largest(func(r *topRow) float64 { return r.txHz + r.rxHz })},
	{"RESENT", largest(func(r *topRow) float64 { return share(r.resent, r.sent) })},
	{"LOST", largest(func(r *topRow) float64 { return share(r.lost, r.txHz+r.rxHz+r.lost) })},
	{"PEER", func(a, b *topRow) int { return cmp.Compare(a.peer, b.peer) }},
	{"TOPIC", func(a, b *topRow) int { return cmp.Compare(a.topic, b.topic) }},
}

func share(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return min(part/whole, 1)
}

// topPicture is what is shown and how.
type topPicture struct {
	colour  bool
	peer    string // the only one, "" = all
	totals  bool
	order   int
	reverse bool
	scroll  int
	note    string // what is wrong at the moment
}

// press does what a key asks for; it reports whether that is to end.
func (p *topPicture) press(k key) (end bool) {
	switch k {
	case 'q', 'Q':
		return true
	case keyLeft:
		p.order = (p.order + len(orders) - 1) % len(orders)
	case keyRight:
		p.order = (p.order + 1) % len(orders)
	case 'r':
		p.reverse = !p.reverse
	case 't':
		p.totals = !p.totals
	case keyUp:
		p.scroll--
	case keyDown:
		p.scroll++
	case keyPageUp:
		p.scroll -= 10
	case keyPageDown:
		p.scroll += 10
	}
	return false
}

// rows are all topics, sorted.
func (p *topPicture) rows(t api.Traffic) (rows []topRow) {
	for _, peer := range t.Peers {
		for i := range peer.Topics {
			rows = append(rows, p.row(&peer, &peer.Topics[i]))
		}
	}
	slices.SortStableFunc(rows, func(a, b topRow) int {
		c := orders[p.order].by(&a, &b)
		if p.reverse {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(b.tx+b.rx, a.tx+a.rx), cmp.Compare(a.peer, b.peer), cmp.Compare(a.topic, b.topic))
	})
	return rows
}

func (p *topPicture) row(peer *api.PeerTraffic, t *api.TopicTraffic) topRow {
	r := topRow{peer: printable(peer.Hostname), topic: printable(t.Name), kind: t.Kind, typ: printable(t.Type)}
	if r.peer == "" {
		r.peer = peer.Address.String()
	}
	if t.Lane != "dscp" {
		r.lane = printable(t.Lane)
	}
	if t.Redundant {
		r.lane += " x2"
	}
	tx, rx := &t.Tx, &t.Rx
	if p.totals {
		r.tx, r.rx, r.txHz, r.rxHz = float64(tx.Bytes), float64(rx.Bytes), float64(tx.Samples), float64(rx.Samples)
		r.sent, r.resent, r.lost = float64(tx.Messages+rx.Messages), float64(tx.Resent+rx.Resent), float64(tx.Lost+rx.Lost)
		return r
	}
	r.tx, r.rx, r.txHz, r.rxHz = tx.BytesPerSecond, rx.BytesPerSecond, tx.SamplesPerSecond, rx.SamplesPerSecond
	r.sent = tx.MessagesPerSecond + rx.MessagesPerSecond
	r.resent, r.lost = tx.ResentPerSecond+rx.ResentPerSecond, tx.LostPerSecond+rx.LostPerSecond
	return r
}

// Widths of columns.
const (
	topNarrow   = 80 // what everything must fit
	topPeer     = 12 // of a peer's name at the most, below topWide
	topWidePeer = 20
	topWide     = 110
	topName     = 12 // of a topic's name at the least
	topWideName = 60 // at the most
)

// table is all topics, in lines of a width (0 = any).
func (p *topPicture) table(t api.Traffic, width int) string {
	rows := p.rows(t)
	if len(rows) == 0 {
		return p.empty() + "\n"
	}
	return strings.Join(p.lines(rows, width), "\n") + "\n"
}

func (p *topPicture) empty() string {
	if p.peer != "" {
		return "no traffic with " + printable(p.peer) + " yet"
	}
	return "no traffic yet"
}

// lines lays rows out: a head and a line for each.
func (p *topPicture) lines(rows []topRow, width int) []string {
	wide := width <= 0 || width >= topWide
	per := "/s"
	if p.totals {
		per = ""
	}
	var columns []column
	add := func(head string, right bool) { columns = append(columns, column{head: head, right: right}) }
	if p.peer == "" {
		add("PEER", false)
	}
	name := len(columns)
	add("TOPIC", false)
	add("TX"+per, true)
	add("RX"+per, true)
	samples := [2]string{"TX HZ", "RX HZ"}
	if p.totals {
		samples = [2]string{"TX SAMPLES", "RX SAMPLES"}
	}
	switch {
	case wide:
		add(samples[0], true)
		add(samples[1], true)
	case p.totals:
		add("SAMPLES", true)
	default:
		add("HZ", true)
	}
	add("RESENT", true)
	add("LOST", true)
	add("LANE", false)
	if wide {
		columns = append(columns, column{head: "TYPE", spare: 1})
	}
	tb := table{columns: columns}
	for i := range rows {
		tb.rows = append(tb.rows, p.cells(&rows[i], wide, width))
	}
	p.fit(&tb, rows, name, width)
	return tb.lines(width, p.colour)
}

func (p *topPicture) cells(r *topRow, wide bool, width int) (row []cell) {
	style := plain
	switch {
	case r.tx+r.rx == 0 || r.kind == api.TrafficDiscovery || r.kind == api.TrafficOther:
		style = dim
	case r.kind == api.TrafficUnknown:
		style = yellow
	}
	if p.peer == "" {
		peer := r.peer
		switch {
		case width > 0 && width < topWide:
			peer = cutFront(peer, topPeer)
		case width > 0:
			peer = cutFront(peer, topWidePeer)
		}
		row = append(row, cell{peer, style})
	}
	row = append(row, cell{"", style}, cell{amount(r.tx), style}, cell{amount(r.rx), style})
	number := func(v float64) cell {
		if v == 0 {
			return cell{none, style}
		}
		if p.totals {
			return cell{fmt.Sprintf("%.0f", v), style}
		}
		return cell{threeDigits(v), style}
	}
	if wide {
		row = append(row, number(r.txHz), number(r.rxHz))
	} else {
		row = append(row, number(max(r.txHz, r.rxHz)))
	}
	for _, x := range [][2]float64{{r.resent, r.sent}, {r.lost, r.txHz + r.rxHz + r.lost}} {
		c := cell{none, style}
		if x[1] > 0 && r.kind != api.TrafficOther && r.kind != api.TrafficDiscovery {
			s := share(x[0], x[1])
			c = cell{humanLoss(&s), lossStyle(&s)}
			if c.style == plain {
				c.style = style
			}
		}
		row = append(row, c)
	}
	row = append(row, cell{orNone(r.lane), style})
	if wide {
		row = append(row, cell{orNone(r.typ), style})
	}
	return row
}

// amount writes bytes; nothing is a dash, so that what flows stands out.
func amount(bytes float64) string {
	if bytes < 0.5 {
		return none
	}
	return humanBytes(uint64(bytes + 0.5))
}

// fit shortens the names of topics to what the other columns leave.
func (p *topPicture) fit(t *table, rows []topRow, name, width int) {
	room := topWideName
	if width > 0 {
		room = width
		for i, c := range t.columns {
			if i == name || c.spare > 0 {
				continue
			}
			widest := utf8.RuneCountInString(c.head)
			for _, row := range t.rows {
				widest = max(widest, utf8.RuneCountInString(row[i].text))
			}
			room -= widest + len(gap)
		}
		room = max(min(room, topWideName), topName)
	}
	for i, row := range t.rows {
		row[name].text = rows[i].name(room)
	}
}

// name writes the topic in so much room. The end of a topic's name says most, so it is shortened at the front; what kind it is gives way first.
func (r *topRow) name(room int) string {
	switch r.kind {
	case api.TrafficService, api.TrafficAction:
		if long := r.topic + " (" + string(r.kind) + ")"; utf8.RuneCountInString(long) <= room {
			return long
		}
	case api.TrafficDiscovery, api.TrafficOther:
		return "(" + r.topic + ")"
	case api.TrafficUnknown:
		if _, guid, ok := strings.Cut(r.topic, " of "); ok && utf8.RuneCountInString(r.topic) > room {
			return "unknown " + cutFront(guid, room-len("unknown "))
		}
	}
	return cutFront(r.topic, room)
}

// cutFront shortens text to room characters at its front.
func cutFront(text string, room int) string {
	r := []rune(text)
	if len(r) <= room {
		return text
	}
	return ".." + string(r[len(r)-max(room-2, 0):])
}

// screen is the whole picture for a terminal: what it is, the table as far as it fits, the keys.
func (p *topPicture) screen(t api.Traffic, width, height int) []string {
	rows := p.rows(t)
	var tx, rx float64
	for i := range rows {
		tx, rx = tx+rows[i].tx, rx+rows[i].rx
	}
	per, what := "/s", "now"
	if p.totals {
		per, what = "", "totals"
		if t.Since != nil {
			what = "since " + t.Since.Local().Format("2 Jan 15:04")
		}
	}
	of := fmt.Sprintf("%d peers", len(t.Peers))
	if p.peer != "" {
		of = printable(p.peer)
	}
	title := fmt.Sprintf("hnet top  %s  %d topics  TX %s%s  RX %s%s  %s", of, len(rows), humanBytes(uint64(tx)), per, humanBytes(uint64(rx)), per, what)
	lines := []string{bold.paint(cut(title, width), p.colour)}
	if p.note != "" {
		lines = append(lines, yellow.paint(cut(p.note, width), p.colour))
	}
	room := max(height-len(lines)-2, 1) // of rows: a head above and the keys below
	p.scroll = max(min(p.scroll, len(rows)-room), 0)
	if len(rows) == 0 {
		lines = append(lines, p.empty())
	} else {
		// All rows are laid out, so that columns stand still while one scrolls.
		all := p.lines(rows, width)
		lines = append(lines, all[0])
		lines = append(lines, all[1+p.scroll:min(1+p.scroll+room, len(all))]...)
	}
	for len(lines) < height-1 {
		lines = append(lines, "")
	}
	direction := ""
	if p.reverse {
		direction = " reversed"
	}
	totals := "t totals"
	if p.totals {
		totals = "t rates"
	}
	more := ""
	if left := len(rows) - p.scroll - room; left > 0 {
		more = fmt.Sprintf("  (%d more below)", left)
	}
	keys := fmt.Sprintf("q quit  left/right sort: %s%s  r reverse  %s%s", orders[p.order].name, direction, totals, more)
	return append(lines, dim.paint(cut(keys, width), p.colour))
}

// topScreen shows pictures on the terminal's other screen, so that what was there comes back.
type topScreen struct {
	app     *app
	picture topPicture
	drawn   bool
}

// draw replaces the picture in one write; a terminal that knows how shows it at once when it is whole.
func (s *topScreen) draw(t api.Traffic) error {
	width, height, ok := s.app.Terminal()
	if !ok || width <= 0 || height <= 0 {
		width, height = topNarrow, 24
	}
	var out strings.Builder
	if !s.drawn {
		out.WriteString("\x1b[?1049h\x1b[?25l") // the other screen, no cursor
		s.drawn = true
	}
	out.WriteString("\x1b[?2026h\x1b[H")
	for i, line := range s.picture.screen(t, width, height) {
		if i > 0 {
			out.WriteString("\r\n")
		}
		out.WriteString(line + "\x1b[K")
	}
	out.WriteString("\x1b[J\x1b[?2026l")
	_, err := io.WriteString(s.app.Stdout, out.String())
	return err
}

func (s *topScreen) end() {
	if s.drawn {
		io.WriteString(s.app.Stdout, "\x1b[?25h\x1b[?1049l")
	}
}
