// Package near finds the name that somebody meant who misspelt it.
package near

// Nearest returns the name that differs from s in the fewest letters, the first of several; "" if none differs in at most
// two, or a third of them, and fewer than all. A word that is too long to be a misspelt name has none.
func Nearest(s string, names []string) string {
	if len(s) > 64 {
		return ""
	}
	best, least := "", min(max(2, len(s)/3), len(s)-1)+1
	for _, name := range names {
		if d := distance(s, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is how many letters must be put in, left out, replaced, or exchanged with the next one, to get from a to b.
func distance(a, b string) int {
	d := make([][]int, len(a)+1) // d[i][j] is that of a[:i] and b[:j]
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j-1]+cost, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
