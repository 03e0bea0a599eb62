package deadletter

// Blank is [blank].
var Blank = blank
