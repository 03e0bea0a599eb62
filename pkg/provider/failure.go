package provider

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tercelhq/tercel/pkg/config"
	"github.com/tercelhq/tercel/pkg/field"
)

// Failures says how an API tells of failures in answers that have the status of a
// success. Errors of GraphQL need nothing said: they are found by their code,
// extensions.code or type, or by their message up to a colon.
type Failures struct {
	// Code is the path of a code which only failures have, such as error.
	// Defaults to none.
	Code string `yaml:"code"`
	// Classes are what codes mean, such as {channel_not_found: gone}. What isn't
	// listed fails in vain, except the customary codes of GraphQL.
	Classes map[string]FailureClass `yaml:"classes"`

	code field.Path
}

// FailureClass is what a failure means.
type FailureClass string

// The classes.
const (
	FailureGone      FailureClass = "gone"      // there is no such record: a tombstone
	FailureThrottled FailureClass = "throttled" // the API wants to be left alone
	FailureRefused   FailureClass = "refused"   // the credential was
	FailureTransient FailureClass = "transient" // it may pass
	FailurePermanent FailureClass = "permanent" // it would fail again
)

// failureOrder are all classes: of several errors in one answer the first counts.
var failureOrder = []FailureClass{FailureThrottled, FailureRefused, FailureTransient, FailurePermanent, FailureGone}

// Values lists the classes, for configuration errors.
func (FailureClass) Values() []string {
	return []string{
		string(FailureGone), string(FailureThrottled), string(FailureRefused), string(FailureTransient), string(FailurePermanent),
	}
}

// customary are codes of GraphQL errors that several servers use.
var customary = map[string]FailureClass{
	"NOT_FOUND": FailureGone, "Throttled": FailureThrottled,
	"THROTTLED": FailureThrottled, "RATE_LIMITED": FailureThrottled, "RATELIMITED": FailureThrottled,
	"UNAUTHENTICATED": FailureRefused, "AUTHENTICATION_ERROR": FailureRefused,
	"INTERNAL_SERVER_ERROR": FailureTransient, "INTERNAL_ERROR": FailureTransient,
	"SERVICE_UNAVAILABLE": FailureTransient, "TIMEOUT": FailureTransient,
}

// Failure is what an answer says that has failed.
type Failure struct {
	Class FailureClass
	// Code is its code where it is a known one, else "".
	Code string
	// Wait is how long the API wants to be left alone, 0 where it doesn't say.
	Wait time.Duration
}

// Validate reports every fault of the section.
func (f *Failures) Validate(c *config.Check) {
	var err error
	if f.code, err = field.ParsePath(f.Code); err != nil {
		c.Fault("code", "", "a path such as error")
	}
}

// In returns what an answer, one JSON value, says that has failed, if it does.
func (f Failures) In(answer []byte, graphQL bool) (Failure, bool) {
	if graphQL {
		return f.inGraphQL(answer)
	}
	if f.Code == "" {
		return Failure{}, false
	}
	v, err := f.code.One(answer)
	if err != nil {
		return Failure{}, false
	}
	code, err := field.Text(v)
	if err != nil {
		return Failure{}, false
	}
	return f.of(code), true
}

func (f Failures) of(codes ...string) Failure {
	for _, known := range []map[string]FailureClass{f.Classes, customary} {
		for _, code := range codes {
			if class, ok := known[code]; ok {
				return Failure{Class: class, Code: code}
			}
		}
	}
	return Failure{Class: FailurePermanent}
}

// maxErrors is how many errors of an answer are looked at.
const maxErrors = 32

var (
	errorsPath   = mustPath("errors")
	messagePath  = mustPath("message")
	codePaths    = []field.Path{mustPath("extensions.code"), mustPath("extensions.type"), mustPath("type"), mustPath("code")}
	costPath     = mustPath("extensions.cost")
	costWanted   = mustPath("requestedQueryCost")
	costLeft     = mustPath("throttleStatus.currentlyAvailable")
	costRestored = mustPath("throttleStatus.restoreRate")
)

func mustPath(text string) field.Path {
	p, err := field.ParsePath(text)
	if err != nil {
		panic(err) // a constant of this package
	}
	return p
}

func (f Failures) inGraphQL(answer []byte) (Failure, bool) {
	all, err := errorsPath.One(answer)
	if err != nil || all.Kind() == 'n' {
		return Failure{}, false
	}
	list, err := field.Elements(all)
	if err != nil { // some servers have one object
		list = [][]byte{all}
	}
	var worst Failure
	for i, e := range list {
		if i == maxErrors {
			break
		}
		found := f.of(errorCodes(e)...)
		if worst.Class == "" || slices.Index(failureOrder, found.Class) < slices.Index(failureOrder, worst.Class) {
			worst = found
		}
	}
	if worst.Class == FailureThrottled {
		worst.Wait = CostWait(answer)
	}
	return worst, worst.Class != ""
}

// errorCodes are the texts of a GraphQL error that may be its code.
func errorCodes(e jsontext.Value) []string {
	var codes []string
	for _, p := range codePaths {
		if v, err := p.One(e); err == nil {
			if text, err := field.Text(v); err == nil {
				codes = append(codes, text)
			}
		}
	}
	if v, err := messagePath.One(e); err == nil {
		if text, err := field.Text(v); err == nil {
			text, _, _ = strings.Cut(text, ":")
			codes = append(codes, text)
		}
	}
	return codes
}

// maxCostWait bounds what an answer may ask for.
const maxCostWait = time.Minute

// CostWait is how long it takes until an API that counts the cost of queries, as
// Shopify's does in extensions.cost, has enough left for the one that an answer
// is to. It is 0 where there is enough, or nothing said.
func CostWait(answer []byte) time.Duration {
	cost, err := costPath.One(answer)
	if err != nil {
		return 0
	}
	wanted, okWanted := number(costWanted, cost)
	left, okLeft := number(costLeft, cost)
	restored, okRestored := number(costRestored, cost)
	if !okWanted || !okLeft || !okRestored || restored <= 0 || left >= wanted {
		return 0
	}
	return time.Duration(min((wanted-left)/restored, maxCostWait.Seconds()) * float64(time.Second))
}

func number(p field.Path, doc []byte) (float64, bool) {
	v, err := p.One(doc)
	if err != nil || v.Kind() != '0' {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(v), 64)
	return n, err == nil
}

// String describes the failure without anything that is not known beforehand.
func (f Failure) String() string {
	if f.Code == "" {
		return fmt.Sprintf("the answer says that it failed (%s)", f.Class)
	}
	return fmt.Sprintf("the answer says that it failed: %s (%s)", f.Code, f.Class)
}
