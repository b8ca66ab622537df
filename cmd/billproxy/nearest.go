package main

import "strings"

// nearest returns the candidate that takes the fewest edits to become word, or
// "" if all take more than a third of its length. What is left out at the end
// counts as one edit.
func nearest(word string, candidates []string) string {
	best, fewest := "", len(word)/3+1
	for _, candidate := range candidates {
		edits := editDistance(word, candidate)
		if strings.HasPrefix(candidate, word) {
			edits = min(edits, 1)
		}
		if edits < fewest {
			best, fewest = candidate, edits
		}
	}
	return best
}

// editDistance counts the bytes to insert, delete or replace (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
