package report

// Deletes is what a scan of the whole list found: records that are held, and
// that the source no longer has.
type Deletes struct {
	// Held is how many records the pipeline held when all had been listed.
	Held int `json:"held"`
	// Unlisted were held by the pipeline or a destination since before the scan,
	// and were not listed.
	Unlisted int `json:"unlisted"`
	// Present are those of them that the source has all the same: they moved while
	// the list was read, or it leaves them out.
	Present int `json:"present"`
	// Unchecked are those that could not be asked for: their ids are nowhere to be
	// found any more, or the source gave no clear answer.
	Unchecked int `json:"unchecked"`
	// Tombstones is how many were stored in TERCEL_RAW.
	Tombstones int `json:"tombstones"`
	// Stopped is why unlisted records were neither asked for nor deleted, or "".
	Stopped string `json:"stopped,omitzero"`
}
