"""The chapter `portfolio`: a fleet of electric vehicles under one limit."""
