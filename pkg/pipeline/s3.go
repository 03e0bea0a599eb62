package pipeline

import (
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/tercelhq/tercel/pkg/config"
)

// S3 is a bucket of an S3-compatible store that gets objects of many events,
// named PREFIXsource=SOURCE/type=TYPE/date=YYYY-MM-DD/FIRST-LAST-HASH.ndjson or
// .parquet: the day is that of the receipt (UTC), FIRST and LAST are sequences of
// the stream. Each event is in one object, however often it comes or its batch is
// tried, as far back as the newest 100,000 events or 1,000 batches: what they
// were is kept in the bucket too, below PREFIX_tercel/. The store has to know
// If-None-Match with writes. Several sinks may write at once.
type S3 struct {
	// Endpoint is the store's URL, such as https://s3.eu-central-1.amazonaws.com.
	// It must be https, unless allow_private is set. Required.
	Endpoint string `yaml:"endpoint"`
	// Bucket is the bucket, which must exist. Required.
	Bucket string `yaml:"bucket"`
	// Prefix begins the objects' names, such as "events/". Defaults to none.
	Prefix string `yaml:"prefix"`
	// Region is the bucket's region. Defaults to us-east-1.
	Region string `yaml:"region"`
	// AccessKey and SecretKey may list, read, write and delete objects below
	// prefix. Required.
	AccessKey config.Secret `yaml:"access_key"`
	SecretKey config.Secret `yaml:"secret_key"`
	// Format is ndjson or parquet, which have the same members and columns.
	// Defaults to ndjson.
	Format ObjectFormat `yaml:"format"`
	// MaxAge is how long events are gathered for an object, until there are
	// sink.batch of them. They stay unacknowledged meanwhile. Defaults to 10s; at
	// most 60s.
	MaxAge time.Duration `yaml:"max_age"`
	// AllowPrivate permits plain http and addresses on loopback and private
	// networks, for systems on the premises. Defaults to false.
	AllowPrivate bool `yaml:"allow_private"`
}

// ObjectFormat is how events are written in an object.
type ObjectFormat string

// The formats of objects.
const (
	NDJSON  ObjectFormat = "ndjson"
	Parquet ObjectFormat = "parquet"
)

// Values lists the formats, for configuration errors.
func (ObjectFormat) Values() []string { return []string{string(NDJSON), string(Parquet)} }

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// Validate fills in the defaults and reports every fault.
func (s *S3) Validate(c *config.Check) {
	if s.Region == "" {
		s.Region = "us-east-1"
	}
	if s.Format == "" {
		s.Format = NDJSON
	}
	if s.MaxAge == 0 {
		s.MaxAge = 10 * time.Second
	}
	u, err := url.Parse(s.Endpoint)
	switch {
	case s.Endpoint == "":
		c.Missing("endpoint", "the URL of an S3-compatible store")
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		c.Fault("endpoint", "no such URL", "a URL such as https://s3.eu-central-1.amazonaws.com, without a path or a user")
	case u.Scheme == "http" && !s.AllowPrivate:
		c.Fault("endpoint", "", "https, or allow_private for a system on the premises")
	}
	if !bucketName.MatchString(s.Bucket) {
		c.Fault("bucket", "", "the name of a bucket")
	}
	if strings.HasPrefix(s.Prefix, "/") || strings.Contains(s.Prefix, "//") || strings.Contains(s.Prefix, "..") || len(s.Prefix) > 200 {
		c.Fault("prefix", "", "at most 200 bytes that don't begin with a slash, such as events/")
	}
	if s.AccessKey.IsZero() || s.SecretKey.IsZero() {
		c.Missing("access_key", "access_key and secret_key")
	}
	if s.MaxAge < 0 || s.MaxAge > time.Minute {
		c.Fault("max_age", "", "0s to 60s")
	}
}
