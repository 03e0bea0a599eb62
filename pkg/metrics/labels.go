package metrics

// Labels whose values operators choose.
var (
	source      = Label{Name: "source", About: "A source of the pipeline file."}
	resource    = Label{Name: "resource", About: "A resource of the source, or events for its list of events."}
	destination = Label{Name: "destination", About: "A destination of the pipeline file."}
	name        = Label{Name: "name", About: "The stage's source or destination; of a consumer that is none of Tercel's, its durable name."}
	stream      = Label{Name: "stream", About: "A stream of Tercel; buckets begin with KV_."}
	service     = Label{Name: "service", About: "The program."}
	version     = Label{Name: "version", About: "The version that runs."}
	goVersion   = Label{Name: "go", About: "The version of Go that it was built with."}
	method      = Label{Name: "method", About: "A method of the admin API, from its contract."}
)

// Labels with listed values.
var (
	stage = Label{Name: "stage", Values: []string{"enrich", "deliver", "collect"}, About: "A stage."}
	// Consumers of other teams are none of Tercel's stages.
	consumerStage = Label{Name: "stage", Values: append([]string{"downstream"}, stage.Values...), About: "A stage, or downstream for a consumer of another team."}
	use           = one("use", "Who calls: enrich gets records, reconcile lists them.", "enrich", "reconcile")
	class         = one("class", "Why it was given up.", "transient", "throttled", "postponed", "permanent", "exhausted")
	answer        = one("outcome", "How it was answered; what was refused says why.",
		"accepted", "duplicate", "handshake", "empty", "refused_origin", "refused_signature", "refused_structure", "refused_size",
		"refused_schema", "refused_type", "refused_rate", "unavailable", "key_unavailable", "unknown_source", "failed")
	settled = one("outcome", "The answer that the message got.", "acked", "delayed", "terminated")
	code    = one("code", "How the call ended.", "ok", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found",
		"already_exists", "permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
		"internal", "unavailable", "data_loss", "unauthenticated")
)

func one(name, about string, values ...string) Label {
	return Label{Name: name, Values: values, About: about}
}

func labels(l ...Label) []Label { return l }

// Bounds of durations in seconds, from what takes less than a millisecond to
// what takes hours.
var (
	quick = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}
	work  = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}
	calls = []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}
	age   = []float64{.01, .05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}
	runs  = []float64{.1, .5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600}
)
