using Npgsql;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

/// <summary>A server of one's own, which counts statements and which a test may stop.</summary>
internal static class Cluster
{
    /// <summary>Or the end of the test.</summary>
    public static async Task<PostgreSqlCluster> StartAsync()
    {
        PostgreSqlCluster? cluster = await PostgreSqlCluster.StartAsync("shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_utility=on");
        if (cluster is null)
        {
            const string Missing = "PostgreSQL is not installed (Debian: apt-get install postgresql)";
            Assert.SkipUnless(Environment.GetEnvironmentVariable("CI") == "true", Missing);
            Assert.Fail(Missing);
        }

        return cluster;
    }
}
