package sourceapi

import (
	"container/list"
	"net/http"
	"strings"
	"sync"
	"time"
)

// cache keeps answers, to ask the API only whether they have changed, and to
// serve calls that take an answer of some age. The least recently used go when
// there is no room. It is safe for concurrent use.
type cache struct {
	room int64 // bytes

	mu    sync.Mutex // guards what follows
	used  int64
	order *list.List // of *kept, the most recently used first
	byKey map[string]*list.Element
}

// kept is an answer in the cache. It is never changed.
type kept struct {
	key    string
	answer Answer
	// etag and modified are what a conditional request asks with.
	etag, modified string
}

// overhead is about what an answer takes beside its key and body, in bytes.
const overhead = 512

func (k *kept) size() int64 {
	return int64(len(k.key)+len(k.answer.Body)+len(k.etag)+len(k.modified)) + overhead
}

func newCache(room int64) *cache {
	return &cache{room: room, order: list.New(), byKey: map[string]*list.Element{}}
}

// get returns what is kept under key, or nil.
func (c *cache) get(key string) *kept {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*kept)
}

// put keeps an answer, if it is of use and no answer that was asked for later is
// kept already. An answer that takes more than a quarter of the room is not
// worth it.
func (c *cache) put(key string, a Answer, reusable bool) {
	a.Header = lasting(a.Header)
	k := &kept{key: key, answer: a, etag: a.Header.Get("Etag"), modified: a.Header.Get("Last-Modified")}
	if len(k.etag) > 1024 || len(k.modified) > 1024 || !reusable && k.etag == "" && k.modified == "" || k.size() > c.room/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[key]; e != nil {
		if e.Value.(*kept).answer.RequestedAt.After(a.RequestedAt) {
			return
		}
		c.drop(e)
	}
	c.byKey[key] = c.order.PushFront(k)
	c.used += k.size()
	for c.used > c.room {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	k := c.order.Remove(e).(*kept)
	delete(c.byKey, k.key)
	c.used -= k.size()
}

// storable reports whether an answer may be kept.
func storable(h http.Header) bool {
	for _, value := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(directive), "no-store") {
				return false
			}
		}
	}
	return true
}

// lasting are the headers that say something of the record rather than of one
// answer.
func lasting(h http.Header) http.Header {
	kept := http.Header{}
	for _, name := range []string{"Content-Type", "Etag", "Last-Modified", "Link"} {
		if values := h[name]; len(values) > 0 {
			kept[name] = values
		}
	}
	return kept
}

// within returns an answer whose request began at oldest or later, if there is
// one.
func (c *cache) within(key string, oldest time.Time) (Answer, bool) {
	k := c.get(key)
	if k == nil || k.answer.RequestedAt.Before(oldest) {
		return Answer{}, false
	}
	return k.answer, true
}
