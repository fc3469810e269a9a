"""The running model under human control: a gateway in which people see, intervene, override and shut down.

Floor plan, each room importing only from those before it:

words       what is asked and what comes back, as all rooms speak of it
store       the database: SQLite or PostgreSQL
audit       the append-only log that outside tools can verify
identity    keys, people, passwords, roles
modes       run, restricted, stopped; leases and the stop
review      replies held for a person; overrides
engine      where replies come from: a model here, or a server upstream
guards      what reads requests and replies
policy      which guards run, and what happens when one finds something
gateway     the OpenAI API in front of it all; nothing unchecked and nothing unlogged leaves
console     the web page for people
"""
