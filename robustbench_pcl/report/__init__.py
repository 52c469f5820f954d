"""Tables, figures and the page, from stored evidence. Only Tables 1, 2 and 10 need torch."""
