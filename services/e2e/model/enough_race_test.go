//go:build race

package model_test

// enough is how many histories are played if nobody says how many. Under the race
// detector they take five times as long; what they are to find is found without.
const enough = 40
