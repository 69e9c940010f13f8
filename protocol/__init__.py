"""Messages, and what is said of them: operations, schedules, records, the log, findings and errors; formats/ beside."""
