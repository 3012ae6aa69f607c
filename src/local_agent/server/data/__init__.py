"""The data file: tables, filters, transactions, and who reads beside the writer."""
