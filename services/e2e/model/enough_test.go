//go:build !race

package model_test

// enough is how many histories are played if nobody says how many.
const enough = 1000
