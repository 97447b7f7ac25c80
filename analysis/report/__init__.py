"""The HTML report and its figures. `html` renders the panels that `panels` registers."""
