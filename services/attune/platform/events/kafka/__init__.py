"""The event log on Apache Kafka: log.py is the door, producer.py and consumer.py are its ends, topics.py its setup."""
