"""The join: matches feedback with generations into training examples, and erases people."""
