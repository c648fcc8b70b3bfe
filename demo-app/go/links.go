// The link store: in memory, bounded, with codes that do not reveal how many links there are.

package main

import (
	"errors"
	"fmt"
	"net/url"
	"sync"
)

const (
	maxLinks  = 100_000
	maxURLLen = 2048

	codeAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	codeLen      = 6
	// codes is the number of codes of six characters: 62^6.
	codes = 56_800_235_584
	// spread shares no factor with codes (2 and 31), so multiplying by it modulo codes hits every
	// code once; the product of the largest factors still fits into 64 bits.
	spread = 283_185_311
)

var errLinksFull = fmt.Errorf("the link store is full (%d links); restart the service to empty it", maxLinks)

// links maps codes to URLs.
type links struct {
	mu   sync.RWMutex
	urls map[string]string
}

func newLinks() *links {
	return &links{urls: make(map[string]string)}
}

// create stores a URL and returns its new code.
func (l *links) create(target string) (string, error) {
	if err := checkURL(target); err != nil {
		return "", fmt.Errorf("not a usable URL: %w; send an absolute http or https URL", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.urls) >= maxLinks {
		return "", errLinksFull
	}
	// Links are never removed, so the count is a number that was not used yet.
	code := linkCode(uint64(len(l.urls)) + 1)
	l.urls[code] = target
	return code, nil
}

// find returns the URL of a code.
func (l *links) find(code string) (string, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	target, ok := l.urls[code]
	return target, ok
}

func checkURL(target string) error {
	if len(target) > maxURLLen {
		return fmt.Errorf("longer than %d bytes", maxURLLen)
	}
	// The URL becomes a header value.
	for _, b := range []byte(target) {
		if b <= ' ' || b >= 0x7f {
			return errors.New("it has a character that must be percent-encoded")
		}
	}
	parsed, err := url.Parse(target)
	switch {
	case err != nil:
		return errors.New("it does not parse")
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return errors.New("its scheme is not http or https")
	case parsed.Hostname() == "":
		return errors.New("it names no host")
	}
	return nil
}

func linkCode(number uint64) string {
	rest := number % codes * spread % codes
	var code [codeLen]byte
	for i := range code {
		code[i] = codeAlphabet[rest%62]
		rest /= 62
	}
	return string(code[:])
}
