using System.Data.Common;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Diagnostics;
using Npgsql;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

public enum Provider
{
    Sqlite,
    PostgreSql,
}

internal enum OrderStatus
{
    Paid,
    Cancelled,
    New,
}

internal sealed class ShopOrder
{
    public int Id { get; set; }

    public Guid Number { get; set; }

    public DateTime CreatedAt { get; set; }

    public OrderStatus Status { get; set; }

    public int Tenant { get; set; }

    public string? Note { get; set; }

    public Money Total { get; set; }

    public TimeSpan Delay { get; set; }

    public int? CustomerId { get; set; }

    public Customer? Customer { get; set; }

    public List<Line> Lines { get; set; } = [];

    public Address Address { get; set; } = new();
}

internal readonly record struct Money(long Cents);

internal sealed class Address
{
    public string City { get; set; } = "";
}

internal sealed class Customer
{
    public int Id { get; set; }

    public string Name { get; set; } = "";

    public List<Phone> Phones { get; set; } = [];
}

/// <summary>Owned, so read along with every customer.</summary>
internal sealed class Phone
{
    public string Number { get; set; } = "";
}

internal class Vehicle
{
    public int Id { get; set; }
}

internal sealed class Lorry : Vehicle
{
    public string Plate { get; set; } = "";

    public int Axles { get; set; }
}

internal sealed class Line
{
    public int OrderId { get; set; }

    public int Number { get; set; }

    public string Product { get; set; } = "";
}

/// <summary>Parts of it are JSON.</summary>
internal sealed class Document
{
    public int Id { get; set; }

    public int Rank { get; set; }

    public Details Details { get; set; } = new();

    public List<Details> More { get; set; } = [];

    public Origin Origin { get; set; } = new();
}

internal sealed class Details
{
    public string Text { get; set; } = "";
}

internal sealed class Origin
{
    public string Place { get; set; } = "";
}

/// <summary>Owns rows of a table of their own.</summary>
internal sealed class Parcel
{
    public int Id { get; set; }

    public int Weight { get; set; }

    public List<Stop> Stops { get; set; } = [];
}

internal sealed class Stop
{
    public string City { get; set; } = "";
}

internal sealed class Odd
{
    public int Id { get; set; }

    public decimal Price { get; set; }

    public decimal Rate { get; set; }

    public DateTimeOffset At { get; set; }

    public DateTimeOffset Instant { get; set; }

    public TimeSpan Duration { get; set; }

    public ulong Big { get; set; }
}

internal sealed record OrderView(int Id, DateTime CreatedAt);

internal sealed class OrderModel
{
    public int Number { get; set; }

    public DateTime When { get; set; }

    public List<string> Products { get; set; } = [];
}

/// <summary>Notes what is sent to the database, and how often Entity Framework compiles.</summary>
internal sealed class Witness : DbCommandInterceptor
{
    public List<string> Statements { get; } = [];

    public List<DbParameter[]> Parameters { get; } = [];

    public int Compilations { get; set; }

    public void Clear()
    {
        Statements.Clear();
        Parameters.Clear();
        Compilations = 0;
    }

    public override ValueTask<InterceptionResult<DbDataReader>> ReaderExecutingAsync(DbCommand command, CommandEventData eventData, InterceptionResult<DbDataReader> result, CancellationToken cancellationToken = default)
    {
        Statements.Add(command.CommandText);
        Parameters.Add([.. command.Parameters.Cast<DbParameter>().Select(parameter => parameter is ICloneable cloneable ? (DbParameter)cloneable.Clone() : parameter)]);
        return base.ReaderExecutingAsync(command, eventData, result, cancellationToken);
    }
}

internal sealed class ShopContext(DbConnection connection, Witness witness, int tenant) : DbContext(Options(connection, witness))
{
    public int Tenant { get; } = tenant;

    public DbSet<ShopOrder> Orders => Set<ShopOrder>();

    public DbSet<Line> Lines => Set<Line>();

    public DbSet<Document> Documents => Set<Document>();

    public DbSet<Parcel> Parcels => Set<Parcel>();

    public DbSet<Odd> Odds => Set<Odd>();

    public DbSet<Vehicle> Vehicles => Set<Vehicle>();

    protected override void OnModelCreating(ModelBuilder modelBuilder)
    {
        modelBuilder.Entity<ShopOrder>(order =>
        {
            order.ToTable("shop_orders");
            order.HasQueryFilter(o => o.Tenant == Tenant);
            order.Property(o => o.Status).HasConversion<string>();
            order.Property(o => o.Total).HasConversion(money => money.Cents, cents => new Money(cents));
            order.Property(o => o.Delay).HasConversion<long>();
            order.Property<int>("Priority");
            order.OwnsOne(o => o.Address);
            order.HasMany(o => o.Lines).WithOne().HasForeignKey(line => line.OrderId);
            order.HasIndex(o => new { o.Tenant, o.CreatedAt, o.Id });
            order.HasIndex(o => new { o.Tenant, o.Note, o.Id });
        });
        modelBuilder.Entity<Customer>().ToTable("shop_customers").OwnsMany(customer => customer.Phones, phones => phones.ToTable("shop_phones").HasKey("CustomerId", nameof(Phone.Number)));
        modelBuilder.Entity<Vehicle>().ToTable("shop_vehicles");
        modelBuilder.Entity<Lorry>();
        modelBuilder.Entity<Line>().ToTable("shop_lines").HasKey(line => new { line.OrderId, line.Number });
        modelBuilder.Entity<Document>(document =>
        {
            document.ToTable("shop_documents");
            document.OwnsOne(d => d.Details, details => details.ToJson());
            document.OwnsMany(d => d.More, more => more.ToJson());
            document.ComplexProperty(d => d.Origin, origin => origin.ToJson());
        });
        modelBuilder.Entity<Parcel>().ToTable("shop_parcels").OwnsMany(parcel => parcel.Stops, stops => stops.ToTable("shop_stops").HasKey("ParcelId", nameof(Stop.City)));
        modelBuilder.Entity<Odd>(odd =>
        {
            odd.ToTable("shop_odds");
            odd.Property(o => o.Rate).HasConversion<double>();
            odd.Property(o => o.Instant).HasConversion(instant => instant.ToUnixTimeMilliseconds(), milliseconds => DateTimeOffset.FromUnixTimeMilliseconds(milliseconds));
        });
        if (Database.IsNpgsql())
        {
            modelBuilder.Entity<Odd>().Property(o => o.At).HasColumnType("timestamp(3) with time zone");
            modelBuilder.Entity<Odd>().Property(o => o.Price).HasColumnType("numeric(12,2)");
        }
    }

    private static DbContextOptions Options(DbConnection connection, Witness witness)
    {
        var builder = new DbContextOptionsBuilder<ShopContext>();
        if (connection is NpgsqlConnection)
        {
            builder.UseNpgsql(connection);
        }
        else
        {
            builder.UseSqlite(connection);
        }

        return builder.AddInterceptors(witness).LogTo((id, _) => id == CoreEventId.QueryCompilationStarting, _ => witness.Compilations++).Options;
    }
}

/// <summary>A shop of 60 orders of one tenant, with many at the same time, and some of another.</summary>
internal sealed class ShopDatabase : IAsyncDisposable
{
    public const int Tenant = 7;

    public static readonly DateTime Start = new(2024, 5, 1, 12, 0, 0, DateTimeKind.Utc);

    private readonly DbConnection _connection;
    private readonly NpgsqlConnection? _admin;

    private ShopDatabase(DbConnection connection, NpgsqlConnection? admin)
    {
        _connection = connection;
        _admin = admin;
    }

    public Witness Witness { get; } = new();

    public ShopContext Context() => new(_connection, Witness, Tenant);

    public static async Task<ShopDatabase> OpenAsync(Provider provider, PostgreSqlServer server)
    {
        ShopDatabase database;
        if (provider == Provider.Sqlite)
        {
            database = new ShopDatabase(new SqliteConnection("Data Source=:memory:"), null);
        }
        else
        {
            NpgsqlConnection admin = await server.ConnectAsync();
            string name = $"shop_{Guid.NewGuid():N}";
            await using NpgsqlCommand create = new($"CREATE DATABASE {name}", admin);
            await create.ExecuteNonQueryAsync();
            database = new ShopDatabase(new NpgsqlConnection(new NpgsqlConnectionStringBuilder(server.ConnectionString()) { Database = name, Pooling = false }.ConnectionString), admin);
        }

        await database._connection.OpenAsync();
        await using ShopContext context = database.Context();
        await context.Database.EnsureCreatedAsync();
        Customer[] customers = [new() { Name = "Ada", Phones = [new() { Number = "1" }, new() { Number = "2" }] }, new() { Name = "Bob" }, new() { Name = "Cyd" }];
        for (int i = 1; i <= 66; i++)
        {
            ShopOrder order = new()
            {
                Id = i,
                Number = new Guid(i * 7919 % 256 << 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, (byte)i),
                CreatedAt = Start.AddMinutes(i * 31 % 12),
                Status = (OrderStatus)(i % 3),
                Tenant = i <= 60 ? Tenant : 8,
                Note = i % 4 == 0 ? null : "n" + (i % 5),
                Total = new Money(i * 13 % 7),
                Delay = TimeSpan.FromHours(i * 17 % 50),
                Customer = i % 5 == 0 ? null : customers[i % 3],
                Address = new Address { City = "city " + (i % 4) },
                Lines = [.. Enumerable.Range(1, i % 4).Select(number => new Line { Number = number, Product = $"p{i}.{number}" })],
            };
            context.Add(order).Property("Priority").CurrentValue = i % 6;
            context.Add(new Document { Id = i, Rank = i % 5, Details = new Details { Text = "text " + i }, More = [new Details { Text = "more " + i }], Origin = new Origin { Place = "place " + i } });
            context.Add(i % 2 == 0 ? new Lorry { Id = i, Plate = "p" + (i % 8), Axles = i % 3 } : new Vehicle { Id = i });
            context.Add(new Parcel { Id = i, Weight = i % 5, Stops = [new Stop { City = "a" + i }, new Stop { City = "b" + i }] });
            context.Add(new Odd { Id = i, Price = i % 6 + 0.25m, Rate = i % 6 + 0.5m, At = new DateTimeOffset(Start).AddMinutes(i % 5), Instant = new DateTimeOffset(Start).AddMinutes(i % 5), Duration = TimeSpan.FromHours(i % 30), Big = (ulong)i });
        }

        await context.SaveChangesAsync();
        database.Witness.Clear();
        return database;
    }

    public async ValueTask DisposeAsync()
    {
        string name = _connection.Database;
        await _connection.DisposeAsync();
        if (_admin is not null)
        {
            await using NpgsqlCommand drop = new($"DROP DATABASE {name} WITH (FORCE)", _admin);
            await drop.ExecuteNonQueryAsync();
            await _admin.DisposeAsync();
        }
    }
}
