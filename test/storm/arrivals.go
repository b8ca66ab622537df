package main

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// arrival is the intended start of an operation.
type arrival struct {
	at     time.Duration // since the start of the run
	stream int
}

// schedule draws when the operations of all streams begin: at any moment with equal
// probability, as those of many independent customers do (a Poisson process). The same
// seed gives the same schedule.
func schedule(seed uint64, s *scenario) []arrival {
	var all []arrival
	for i, stream := range s.streams {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		begin := time.Duration(0)
		for j, p := range s.phases {
			end := begin + p.length
			if rate := stream.rates[j]; rate > 0 {
				at := begin
				for {
					at += time.Duration(random.ExpFloat64() / rate * float64(time.Second))
					if at >= end {
						break
					}
					all = append(all, arrival{at, i})
				}
			}
			begin = end
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	return all
}
