package timeline

// Paused is what a timeline says of a stage that is paused.
var Paused = paused

// Segments are small in tests, so that there are many.
func init() { segmentEntries = 8 }
