"""One adapter a channel: each makes a message of a notification and hands it to the outside."""
