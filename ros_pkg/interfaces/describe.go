package interfaces

import (
	"fmt"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/idl"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/type_description_interfaces"
)

// Describe returns what ~/get_type_description answers for a type: its description and the interface files it was made from. typeName is that
// of the definition or, for a service's, of its request, response or event ("std_srvs/srv/SetBool_Request").
func Describe(def *cdr.Definition, typeName string) (type_description_interfaces.TypeDescription, []type_description_interfaces.TypeSource, error) {
	var td type_description_interfaces.TypeDescription
	set := new(idl.Set)
	if err := collect(set, def); err != nil {
		return td, nil, err
	}
	name, err := idl.ParseName(typeName)
	if err != nil {
		return td, nil, err
	}
	d, err := set.Describe(name)
	if err != nil {
		return td, nil, err
	}
	td.TypeDescription = individual(d.Type)
	sources := []type_description_interfaces.TypeSource{source(set, d.Type.Name)}
	for _, r := range d.Referenced {
		td.ReferencedTypeDescriptions = append(td.ReferencedTypeDescriptions, individual(r))
		sources = append(sources, source(set, r.Name))
	}
	return td, sources, nil
}

// collect parses the files of a definition and of all it uses.
func collect(set *idl.Set, def *cdr.Definition) error {
	name, err := idl.ParseName(def.Type)
	if err != nil {
		return err
	}
	if _, err := set.Lookup(name); err == nil {
		return nil
	}
	f, err := idl.Parse(name, def.Text)
	if err != nil {
		return fmt.Errorf("definition of %s: %w", def.Type, err)
	}
	set.Add(f)
	for _, u := range def.Uses {
		if err := collect(set, u); err != nil {
			return err
		}
	}
	return nil
}

func individual(t idl.Individual) type_description_interfaces.IndividualTypeDescription {
	out := type_description_interfaces.IndividualTypeDescription{TypeName: t.Name}
	for _, f := range t.Fields {
		out.Fields = append(out.Fields, type_description_interfaces.Field{
			Name: f.Name,
			Type: type_description_interfaces.FieldType{
				TypeID: f.TypeID, Capacity: f.Capacity, StringCapacity: f.StringCapacity, NestedTypeName: f.Nested,
			},
			DefaultValue: f.Default,
		})
	}
	return out
}

// source returns the text of a type. What a service implies, its parts, has none of its own.
func source(set *idl.Set, typeName string) type_description_interfaces.TypeSource {
	name, err := idl.ParseName(typeName)
	if err == nil {
		if f, err := set.Lookup(name); err == nil {
			return type_description_interfaces.TypeSource{TypeName: typeName, Encoding: name.Kind, RawFileContents: f.Text}
		}
	}
	return type_description_interfaces.TypeSource{TypeName: typeName, Encoding: "implicit"}
}
