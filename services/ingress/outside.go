package ingress

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tercelhq/tercel/pkg/account"
	"github.com/tercelhq/tercel/pkg/provider"
	"github.com/tercelhq/tercel/pkg/signature"
	"github.com/tercelhq/tercel/services/ingress/internal/keyring"
)

// Outside is how servers of senders are reached, for the keys that they sign with
// and the addresses that they want visited. The zero Outside is the usual way:
// the guarded one of package egress, with the system's roots.
type Outside struct {
	// Accounts are those of the source that [Outside.Explain] is asked about, where
	// they are in a bucket. A [Service] has its own.
	Accounts *account.Table
	// Roots are what certificates are verified up to: those of the servers, and
	// those that have a sender's key. Defaults to the system's.
	Roots *x509.CertPool
	// Dial connects to host:port. Defaults to doing so where the address is public.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// visitTimeout bounds a visit. Its sender waits for the answer meanwhile.
const visitTimeout = 5 * time.Second

// reach prepares what the route needs of servers outside. End it with leave.
func (r *route) reach(o Outside, now func() time.Time) error {
	deps := keyring.Deps{Now: now, Roots: o.Roots, Dial: o.Dial}
	if r.source.Handshakes.Visits() {
		r.visitor = deps.Client(false)
	}
	if !r.source.Verifier().FetchesKey() {
		return nil
	}
	var err error
	r.ring, err = keyring.New(keyring.Config{
		Source: r.name, Algorithm: r.source.Verify.Algorithm, Keys: r.source.SenderKeys, API: r.source.API,
	}, deps)
	return err
}

// leave ends what reach has begun.
func (r *route) leave() {
	if r.ring != nil {
		r.ring.Close()
	}
	if r.visitor != nil {
		r.visitor.CloseIdleConnections()
	}
}

// fetchSenderKey has the key at hand that the request names, where its scheme has
// such keys. Whether the key can't be had or doesn't exist makes the difference
// between an event that comes again and one that is refused.
func (in *inspection) fetchSenderKey() *refusal {
	if in.route.ring == nil {
		return nil
	}
	name, err := in.route.source.Verifier().KeyName(in.signed(), in.keys())
	if err != nil {
		return in.refusedSignature(err)
	}
	in.senderKey, err = in.route.ring.Key(in.request.Context(), name)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keyring.ErrUnknown):
		return in.refusedSignature(&signature.Error{Step: signature.StepKey, Reason: err.Error(), Err: signature.ErrMismatch})
	default:
		return &refusal{
			status: http.StatusServiceUnavailable, outcome: keyUnavailable, text: "the signature can't be checked now",
			reason: err.Error(), step: signature.StepKey, retryAfter: retryKey,
		}
	}
}

// visit calls the address that a handshake which was signed wants visited. A
// captured one has been answered long ago, and nothing is done for it.
func (in *inspection) visit(h *provider.NamedHandshake, call *provider.Call) *refusal {
	address, err := h.Visit.Address(call)
	if errors.Is(err, provider.ErrNotAllowed) {
		return &refusal{
			status: http.StatusForbidden, outcome: refusedSignature, text: "handshake not accepted",
			reason: "handshakes." + h.Name + ".visit: " + err.Error(),
		}
	}
	if err != nil {
		return &refusal{
			status: http.StatusBadRequest, outcome: refusedStructure, text: err.Error(),
			reason: "handshakes." + h.Name + ".visit: " + err.Error(),
		}
	}
	if address == "" || in.captured() {
		return nil
	}
	if err := in.get(address); err != nil {
		return &refusal{
			status: http.StatusServiceUnavailable, outcome: unavailable, text: "the handshake can't be finished now",
			reason: "handshakes." + h.Name + ".visit: " + err.Error(), retryAfter: retryUnavailable,
		}
	}
	return nil
}

func (in *inspection) get(address string) error {
	ctx, cancel := context.WithTimeout(in.request.Context(), visitTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("no URL") // the error would quote it
	}
	return keyring.Visit(in.route.visitor, req)
}

// logVisit tells the operator that the source has been told to send.
func (s *Service) logVisit(ctx context.Context, in *inspection) {
	if in.handshake.Visit.IsZero() {
		return
	}
	s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "address of a handshake visited", slog.String("source", in.route.name),
		slog.String("handshake", in.handshake.Name))
}
