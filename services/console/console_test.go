package console_test

import (
	"net/http"
	"testing"

	"github.com/tercelhq/tercel/pkg/topology"
)

func TestStatusOverHTTPAndJSON(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.post(viewerToken, "PipelineService/GetPipelineStatus", "{}")
	streams, _ := a.body["streams"].([]any)
	if a.status != http.StatusOK || len(streams) != len(topology.Streams(topology.DefaultConfig())) || a.body["version"] != "v1.2.3" {
		t.Errorf("answered %d %s", a.status, a.text)
	}
}
