package timeline

// Paused is what a timeline says of a stage that is paused.
var Paused = paused
