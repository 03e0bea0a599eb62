package enricher

// Combine makes one error of those of a trigger's records.
var Combine = combine
