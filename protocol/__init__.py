"""Messages and run data: operations, schedules, log records, findings and errors; text formats in formats/."""
