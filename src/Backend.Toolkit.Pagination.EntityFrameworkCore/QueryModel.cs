using System.Linq.Expressions;
using System.Runtime.CompilerServices;
using Microsoft.EntityFrameworkCore;
using Microsoft.EntityFrameworkCore.Metadata;
using Microsoft.EntityFrameworkCore.Query;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore;

/// <summary>What the model knows about the rows of a query.</summary>
/// <param name="Dialect">The database.</param>
/// <param name="Model">All entities.</param>
/// <param name="EntityType">The entity type of the rows; null: they are no entities.</param>
internal sealed record QueryModel(SqlDialect Dialect, IModel Model, IEntityType? EntityType)
{
    private const string Npgsql = "Npgsql.EntityFrameworkCore.PostgreSQL";
    private const string Sqlite = "Microsoft.EntityFrameworkCore.Sqlite";

    private static readonly ConditionalWeakTable<IModel, object> Dialects = [];

    public static QueryModel Of<TSource>(Expression query)
    {
        EntityQueryRootExpression root = Root(query)
            ?? throw new PagedQueryException(Outermost(query), $"The query does not begin with entities, so the database is not known: {query}. Page a DbSet, or what was made of one.");
        return Of<TSource>(root.EntityType.Model, root.EntityType.ClrType == typeof(TSource) ? root.EntityType : null);
    }

    public static QueryModel Of<TSource>(IModel model, IEntityType? known = null) =>
        new((SqlDialect)Dialects.GetValue(model, static model => DialectOf(model)), model, known ?? model.FindEntityType(typeof(TSource)));

    /// <summary>The query that all others are called on.</summary>
    public static EntityQueryRootExpression? Root(Expression query)
    {
        while (query is MethodCallExpression { Arguments: [Expression first, ..] })
        {
            query = first;
        }

        return query as EntityQueryRootExpression;
    }

    /// <summary>Whether entities have parts in JSON: those cannot stand in a UNION ALL.</summary>
    public bool HasJson => EntityType is not null && EntityType.GetDerivedTypesInclusive().Any(HasJsonIn);

    /// <summary>Whether collections are read along with the rows, so that each row must be told from all others.</summary>
    public bool ReadsCollections(Expression query) => IncludesCollection(query) || (EntityType is not null && HasEagerCollections(EntityType, []));

    public bool IsEntity(Type type) => EntityType is not null && Model.FindEntityType(type) is not null;

    private static bool HasJsonIn(ITypeBase type) => type.GetComplexProperties().Any(property => property.ComplexType.IsMappedToJson() || HasJsonIn(property.ComplexType))
        || (type is IEntityType entityType && entityType.GetNavigations().Any(navigation =>
            navigation.TargetEntityType.IsMappedToJson() || (navigation is { IsOnDependent: false, IsCollection: false } && navigation.TargetEntityType.IsOwned() && HasJsonIn(navigation.TargetEntityType))));

    /// <summary>Owned ones in tables of their own, and what is included always.</summary>
    private static bool HasEagerCollections(IEntityType type, HashSet<IEntityType> seen) => seen.Add(type) && type.GetDerivedTypesInclusive().Any(derived =>
        derived.GetSkipNavigations().Any(static navigation => navigation.IsEagerLoaded)
        || derived.GetNavigations().Any(navigation => navigation.IsEagerLoaded && !navigation.TargetEntityType.IsMappedToJson() && (navigation.IsCollection || HasEagerCollections(navigation.TargetEntityType, seen))));

    private bool IncludesCollection(Expression query)
    {
        for (; query is MethodCallExpression { Arguments: [Expression first, ..] } call; query = first)
        {
            if (call.Method.DeclaringType == typeof(EntityFrameworkQueryableExtensions) && call.Method.Name is "Include" or "ThenInclude"
                && (call.Arguments[1] is not UnaryExpression { Operand: LambdaExpression path } || IsCollection(path.ReturnType) || (Model.FindEntityType(path.ReturnType) is IEntityType target && HasEagerCollections(target, []))))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Whether a type holds many of something.</summary>
    public static bool IsCollection(Type type) => type != typeof(string) && type != typeof(byte[]) && typeof(System.Collections.IEnumerable).IsAssignableFrom(type);

    private static object DialectOf(IModel model)
    {
        // The provider is the assembly of its services; one's own in their place inherit from them.
        string? last = null;
        for (Type? type = model.GetModelDependencies().TypeMappingSource.GetType(); type is not null; type = type.BaseType)
        {
            string? assembly = type.Assembly.GetName().Name;
            last ??= assembly;
            if (assembly is Npgsql or Sqlite)
            {
                return assembly == Npgsql ? SqlDialect.PostgreSql : SqlDialect.Sqlite;
            }
        }

        throw new PagedQueryException(last ?? "provider", $"The database must be PostgreSQL ({Npgsql}) or SQLite ({Sqlite}), but the provider is {last}. Keyset pages of other databases are not known to be seeks.");
    }

    private static string Outermost(Expression query) => query is MethodCallExpression call ? call.Method.Name : query.NodeType.ToString();
}
