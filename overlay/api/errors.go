package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

// The codes of an [Error]. They are part of the contract.
const (
	CodeBadRequest = "bad_request" // the request makes no sense: 400
	CodeDenied     = "denied"      // the caller may not do this: 403
	CodeNotFound   = "not_found"   // no such peer, entry or name: 404
	CodeConflict   = "conflict"    // contradicts what is there: 409
	CodeTooLarge   = "too_large"   // the request's body is too long: 413
	CodeFailed     = "failed"      // tried and failed: 500
	CodeBusy       = "busy"        // too many connections or event streams: 503
	CodeTimeout    = "timeout"     // no answer in time: 504
	CodeNotRunning = "not_running" // the client found no daemon; never sent by one
)

var statusOf = map[string]int{
	CodeBadRequest: http.StatusBadRequest,
	CodeDenied:     http.StatusForbidden,
	CodeNotFound:   http.StatusNotFound,
	CodeConflict:   http.StatusConflict,
	CodeTooLarge:   http.StatusRequestEntityTooLarge,
	CodeFailed:     http.StatusInternalServerError,
	CodeBusy:       http.StatusServiceUnavailable,
	CodeTimeout:    http.StatusGatewayTimeout,
}

// Error is a refusal or failure, in words for the person at the keyboard: Text says what failed and on what,
// Fix what to do about it (may be empty). Both are one line without a full stop.
type Error struct {
	Code string `json:"code"`
	Text string `json:"text"`
	Fix  string `json:"fix"`
}

// Error is one line: "TEXT: FIX".
func (e *Error) Error() string {
	line := e.Text
	if e.Fix != "" {
		line += ": " + e.Fix
	}
	return strings.Join(strings.Fields(line), " ")
}

// Is makes errors.Is(err, &Error{Code: c}) ask for the code alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Text == ""
}

// IsCode tells whether err is, or wraps, an [Error] with this code.
func IsCode(err error, code string) bool { return errors.Is(err, &Error{Code: code}) }

// status is the HTTP status that carries e.
func (e *Error) status() int {
	if s, ok := statusOf[e.Code]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// asError gives any error a code.
func asError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeTimeout, Text: "no answer in time"}
	}
	return &Error{Code: CodeFailed, Text: err.Error()}
}

func badRequest(text, fix string) *Error { return &Error{Code: CodeBadRequest, Text: text, Fix: fix} }
