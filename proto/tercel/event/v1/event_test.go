package eventv1_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	eventv1 "github.com/tercelhq/tercel/proto/tercel/event/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

// published lists every field and enum value that readers may rely on. A line
// may be added; changing or removing one breaks readers that are already built.
var published = []string{
	"Attributes 1 id string",
	"Attributes 2 source string",
	"Attributes 3 account string",
	"Attributes 4 type string",
	"Attributes 5 subject string",
	"Attributes 6 resource string",
	"Attributes 7 version string",
	"Attributes 8 origin tercel.event.v1.Origin",
	"Attributes 9 time google.protobuf.Timestamp",
	"Attributes 10 received_at google.protobuf.Timestamp",
	"Attributes 11 observed_at google.protobuf.Timestamp",
	"Attributes 12 delivery_id string",
	"Attributes 13 trigger_sequence uint64",
	"Body 1 trigger google.protobuf.Value",
	"Body 2 record google.protobuf.Value",
	"Body 3 related map of google.protobuf.Value",
	"Body 4 deleted bool",
	"Body 5 truncated list of string",
	"Body 6 stale bool",
	"Event 1 attributes tercel.event.v1.Attributes",
	"Event 2 body tercel.event.v1.Body",
	"Origin 0 ORIGIN_UNSPECIFIED",
	"Origin 1 ORIGIN_WEBHOOK",
	"Origin 2 ORIGIN_RECONCILE",
	"Origin 3 ORIGIN_REPLAY",
	"Origin 4 ORIGIN_BACKFILL",
}

// The generated code offers exactly what is published, under the same numbers.
func TestContractIsStable(t *testing.T) {
	t.Parallel()
	got := describe(eventv1.File_tercel_event_v1_event_proto)
	for _, line := range published {
		if !slices.Contains(got, line) {
			t.Errorf("%q is gone or changed; readers depend on it", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(published, line) {
			t.Errorf("%q is new; add it to published", line)
		}
	}
}

// The JSON that travels on the wire is read as it is, and what protojson writes
// means the same.
func TestBodyReadsWireJSON(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		wire string
		want *eventv1.Body
	}{
		"trigger and record": {
			wire: `{"trigger": {"id": "evt_1"}, "record": {"amount": 12.5}, "related": {}}`,
			want: &eventv1.Body{
				Trigger: object(t, map[string]any{"id": "evt_1"}),
				Record:  object(t, map[string]any{"amount": 12.5}),
			},
		},
		"no trigger": {
			wire: `{"trigger": null, "record": {"id": 7}, "related": {}}`,
			want: &eventv1.Body{Trigger: structpb.NewNullValue(), Record: object(t, map[string]any{"id": 7})},
		},
		"no record": {
			wire: `{"trigger": ["ping"], "record": null, "related": {}}`,
			want: &eventv1.Body{
				Trigger: structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("ping")}}),
				Record:  structpb.NewNullValue(),
			},
		},
		"related records, one of them absent": {
			wire: `{"trigger": "x", "record": {}, "related": {"customer": {"id": "c"}, "lines": [1, 2], "coupon": null}}`,
			want: &eventv1.Body{
				Trigger: structpb.NewStringValue("x"),
				Record:  object(t, nil),
				Related: map[string]*structpb.Value{
					"customer": object(t, map[string]any{"id": "c"}),
					"lines": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{
						structpb.NewNumberValue(1), structpb.NewNumberValue(2),
					}}),
					"coupon": structpb.NewNullValue(),
				},
			},
		},
		"deleted": {
			wire: `{"trigger": 1, "record": null, "related": null, "deleted": true}`,
			want: &eventv1.Body{Trigger: structpb.NewNumberValue(1), Record: structpb.NewNullValue(), Deleted: true},
		},
		"a member that is not known yet": {
			wire: `{"trigger": true, "record": null, "related": {}, "added_later": {"a": 1}}`,
			want: &eventv1.Body{Trigger: structpb.NewBoolValue(true), Record: structpb.NewNullValue()},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := new(eventv1.Body)
			if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(tt.wire), got); err != nil {
				t.Fatalf("Unmarshal(%s): %v", tt.wire, err)
			}
			if !proto.Equal(got, tt.want) {
				t.Fatalf("Unmarshal(%s) = %v, want %v", tt.wire, got, tt.want)
			}
			written, err := protojson.Marshal(got)
			if err != nil {
				t.Fatalf("Marshal: %v", err)
			}
			again := new(eventv1.Body)
			if err := protojson.Unmarshal(written, again); err != nil {
				t.Fatalf("Unmarshal(%s): %v", written, err)
			}
			if !proto.Equal(again, tt.want) {
				t.Errorf("after a round trip = %v, want %v", again, tt.want)
			}
		})
	}
}

// Integers beyond 2^53 lose digits, as the comment on Body warns.
func TestBodyHoldsNumbersAsDoubles(t *testing.T) {
	t.Parallel()
	body := new(eventv1.Body)
	if err := protojson.Unmarshal([]byte(`{"record": 9007199254740993}`), body); err != nil {
		t.Fatal(err)
	}
	if got, want := body.GetRecord().GetNumberValue(), math.Pow(2, 53); got != want {
		t.Errorf("record = %v, want %v", got, want)
	}
}

func Example() {
	wire := `{"trigger": {"id": "evt_1", "kind": "invoice.paid"}, "record": {"total": 1250}, "related": {"customer": {"name": "Ada"}}}`
	body := new(eventv1.Body)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(wire), body); err != nil {
		fmt.Println(err)
		return
	}
	record := body.GetRecord().GetStructValue().GetFields()
	customer := body.GetRelated()["customer"].GetStructValue().GetFields()
	fmt.Println(record["total"].GetNumberValue(), customer["name"].GetStringValue(), body.GetDeleted())
	// Output: 1250 Ada false
}

// describe lists the fields and enum values of f, one a line.
func describe(f protoreflect.FileDescriptor) []string {
	var lines []string
	for i := range f.Messages().Len() {
		m := f.Messages().Get(i)
		for j := range m.Fields().Len() {
			fd := m.Fields().Get(j)
			lines = append(lines, fmt.Sprintf("%s %d %s %s", m.Name(), fd.Number(), fd.Name(), kind(fd)))
		}
	}
	for i := range f.Enums().Len() {
		e := f.Enums().Get(i)
		for j := range e.Values().Len() {
			lines = append(lines, fmt.Sprintf("%s %d %s", e.Name(), e.Values().Get(j).Number(), e.Values().Get(j).Name()))
		}
	}
	return lines
}

// kind names the type of a field as it stands in the .proto file.
func kind(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.IsMap():
		return "map of " + kind(fd.MapValue())
	case fd.IsList():
		return "list of " + fd.Kind().String()
	case fd.Message() != nil:
		return string(fd.Message().FullName())
	case fd.Enum() != nil:
		return string(fd.Enum().FullName())
	}
	return fd.Kind().String()
}

// object returns a JSON object as a Value.
func object(t *testing.T, fields map[string]any) *structpb.Value {
	t.Helper()
	s, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	return structpb.NewStructValue(s)
}
