using Backend.Toolkit.Idempotency.PostgreSql.Tests;

[assembly: AssemblyFixture(typeof(Database))]
