// Tests of the link store.

package main

import (
	"errors"
	"strings"
	"testing"
)

func TestACreatedLinkIsFound(t *testing.T) {
	l := newLinks()
	const target = "https://example.com/a?b=c&d=e"
	code, err := l.create(target)
	if err != nil {
		t.Fatal(err)
	}
	if found, ok := l.find(code); !ok || found != target {
		t.Errorf("find(%q) = %q, %v", code, found, ok)
	}
	if _, ok := l.find("nope"); ok {
		t.Error("an unknown code was found")
	}
}

func TestCodesAreDistinctAndOfOneLength(t *testing.T) {
	seen := make(map[string]bool)
	for number := uint64(1); number <= 10_000; number++ {
		code := linkCode(number)
		if len(code) != codeLen || seen[code] {
			t.Fatalf("code %q of number %d", code, number)
		}
		seen[code] = true
	}
	// The Rust service has the same table: both create the same codes.
	if code := linkCode(1); code != "1RDAJ0" {
		t.Errorf("linkCode(1) = %q", code)
	}
}

func TestBadURLsAreRefused(t *testing.T) {
	long := "http://example.com/" + strings.Repeat("x", maxURLLen)
	for _, target := range []string{"", "/path", "ftp://example.com/", "http://", "http://a b/", "http://a/\n", "http://a/ü", long} {
		if _, err := newLinks().create(target); err == nil {
			t.Errorf("%q was accepted", target)
		}
	}
}

func TestTheStoreIsBounded(t *testing.T) {
	l := newLinks()
	for range maxLinks {
		if _, err := l.create("http://example.com/"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.create("http://example.com/"); !errors.Is(err, errLinksFull) {
		t.Errorf("one link too many: %v", err)
	}
}
