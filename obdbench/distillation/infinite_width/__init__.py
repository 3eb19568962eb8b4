"""The meta-gradient of students of infinite width, by their tangent kernel."""
