using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

internal sealed class EffectContext(NpgsqlDataSource source, bool retries = false) : DbContext
{
    protected override void OnConfiguring(DbContextOptionsBuilder optionsBuilder) => optionsBuilder.UseNpgsql(source, npgsql =>
    {
        if (retries)
        {
            npgsql.EnableRetryOnFailure();
        }
    });

    protected override void OnModelCreating(ModelBuilder modelBuilder) => modelBuilder.Entity<Effect>(effect =>
    {
        effect.ToTable("effects");
        effect.HasKey(it => it.Name);
        effect.Property(it => it.Name).HasColumnName("name");
    });
}
