"""The chapter `capacity`: charging hubs that share a transformer on a cold evening."""
