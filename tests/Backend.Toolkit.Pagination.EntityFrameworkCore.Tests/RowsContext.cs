using System.Data.Common;
using Backend.Toolkit.Pagination.Tests;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

/// <summary>The rows with a column of each kind, in a table that was made by hand.</summary>
internal sealed class RowsContext(DbConnection connection) : DbContext(Options(connection))
{
    public DbSet<Row> Rows => Set<Row>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<Row>().ToTable("rows");
        foreach (Microsoft.EntityFrameworkCore.Metadata.IMutableProperty property in modelBuilder.Entity<Row>().Metadata.GetProperties())
        {
            property.SetColumnName(property.Name switch { nameof(Row.LongId) => "long_id", nameof(Row.GuidId) => "guid_id", string name => name.ToLowerInvariant() });
        }
    }

    private static DbContextOptions Options(DbConnection connection)
    {
        var builder = new DbContextOptionsBuilder<RowsContext>();
        if (connection is NpgsqlConnection)
        {
            builder.UseNpgsql(connection);
        }
        else
        {
            builder.UseSqlite(connection);
        }

        return builder.UseQueryTrackingBehavior(QueryTrackingBehavior.NoTracking).Options;
    }
}
