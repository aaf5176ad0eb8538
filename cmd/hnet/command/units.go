package command

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// none stands for what is not known.
const none = "-"

// humanBytes writes a number of bytes in decimal units with three digits.
func humanBytes(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		v /= 1000
		if v < 999.5 || unit == "EB" {
			return threeDigits(v) + " " + unit
		}
	}
	return none
}

// humanMS writes milliseconds with three digits.
func humanMS(ms *float64) string {
	switch {
	case ms == nil:
		return none
	case *ms >= 999.5:
		return threeDigits(*ms/1000) + " s"
	}
	return threeDigits(*ms) + " ms"
}

func threeDigits(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// humanLoss writes a share as percent.
func humanLoss(loss *float64) string {
	switch {
	case loss == nil:
		return none
	case *loss > 0 && *loss < 0.1:
		return fmt.Sprintf("%.1f%%", *loss*100)
	}
	return fmt.Sprintf("%.0f%%", *loss*100)
}

// humanAgo writes how long ago t was.
func humanAgo(now time.Time, t *time.Time) string {
	if t == nil {
		return none
	}
	d := now.Sub(*t)
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d d ago", d/(24*time.Hour))
}

// orNone shows s, or that there is none.
func orNone(s string) string {
	if s == "" {
		return none
	}
	return printable(s)
}

// named writes a peer as a sentence names it.
func named(hostname string, address netip.Addr) string {
	if hostname == "" {
		return address.String()
	}
	return fmt.Sprintf("%s (%s)", printable(hostname), address)
}

// span is a flag's value: a time such as 500ms or 30s; a plain number is seconds.
type span time.Duration

func (s *span) String() string { return time.Duration(*s).String() }
func (s *span) Type() string   { return "time" }

func (s *span) Set(text string) error {
	d, err := time.ParseDuration(text)
	if v, numErr := strconv.ParseFloat(text, 64); numErr == nil && v < 1e6 {
		d, err = time.Duration(v*float64(time.Second)), nil
	}
	if err != nil || d < 0 {
		return fmt.Errorf("expected a time such as 500ms or 30s")
	}
	*s = span(d)
	return nil
}
