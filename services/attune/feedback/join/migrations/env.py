"""Runs the migrations on the connection that attune.feedback.join.database hands over."""

from alembic import context

from attune.feedback.join.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
