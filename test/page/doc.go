// Package page turns what a benchmark has measured into a page of docs: figures and
// what they promise, tables, plots, and the folder they stand in beside every single
// measurement, from which the page can be written anew.
package page
