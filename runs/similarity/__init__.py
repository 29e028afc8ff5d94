"""How far apart tasks are, by measures that know nothing of learning from one to the other, and whether they tell how
well that goes. One file a distance (`policies`, `values`, `embedding`), the transfer in `gains`, the question in
`correlation`."""
