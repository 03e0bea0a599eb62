package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tercelhq/tercel/pkg/fault"
)

// cause is what a class of errors says about the items of a failed batch.
type cause int

const (
	// outside has nothing to do with the items: another try may succeed.
	outside cause = iota
	// perhaps comes from one item's content, or from a mistake of the
	// operator's that will be put right.
	perhaps
	// content is an item's own, which it would meet again.
	content
)

// causes are the classes of SQLSTATE, its first two characters, by what they
// say. Classes that aren't here are outside: connections (08), privileges (28,
// 42), rollbacks such as deadlocks (40), resources such as a full disk (53),
// locks (55), an operator who shuts the server down or a timeout (57), the
// system (58), a read-only server (25).
var causes = map[string]cause{
	"22": content, // data exception
	"23": content, // a constraint is violated
	"44": content, // a view's check option is violated
	"54": content, // too long or too deep
	"P0": content, // a trigger raised an exception
	"09": perhaps, // a trigger failed
	"0A": perhaps, // something isn't supported
	"21": perhaps, // a trigger's subquery returned several rows
	"38": perhaps, // a function of an extension failed
	"39": perhaps, // the same
	"XX": perhaps, // a fault of the server's
}

// causeOf reads err, which is outside unless the server spoke.
func causeOf(err error) cause {
	var e *pgconn.PgError
	if !errors.As(err, &e) || len(e.Code) < 2 {
		return outside
	}
	return causes[e.Code[:2]]
}

// described is err as it may be shown, marked if the same item would meet it
// again. What the server says of a value is left out: it quotes it. Neither has
// the text of a failed connection a password.
func described(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		err = sqlError{e}
	}
	if causeOf(err) == content {
		return fault.Permanent(err)
	}
	return err
}

// sqlError is what the server said, without the values that it said it of.
type sqlError struct{ *pgconn.PgError }

func (e sqlError) Unwrap() error { return e.PgError }

// Error returns the message and what it is about.
func (e sqlError) Error() string {
	message, about := e.Message, []string{"SQLSTATE " + e.Code}
	if strings.HasPrefix(e.Code, "22") {
		message = "a value is not what the column takes"
	}
	for _, part := range [][2]string{{"table", e.TableName}, {"column", e.ColumnName}, {"constraint", e.ConstraintName}} {
		if part[1] != "" && !strings.Contains(message, part[1]) {
			about = append(about, part[0]+" "+part[1])
		}
	}
	return fmt.Sprintf("%s (%s)", message, strings.Join(about, ", "))
}
