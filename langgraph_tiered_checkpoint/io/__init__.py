"""Where plans meet servers: the runners, the connections of each driver, and what their errors mean."""
